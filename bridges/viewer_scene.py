"""The live viewer's world: floor, camera with its picture, people."""

from __future__ import annotations

import numpy as np
import viser

from bridges.viewer_body import PersonView
from bridges.viewer_mesh import coarse
from pipeline.body import open_body
from pipeline.frames import Array
from pipeline.messages import Calibration, PoseMessage

FRUSTUM_M = 0.4
#: From where a new visitor looks at the first person who was seen, who is then beside the panel.
FROM_M, BESIDE_M = np.array([2.9, 1.2, 3.1]), np.array([0.5, -0.1, 0.0])
_LOOK_M = np.array([0.0, 0.85, -3.0])


class Scene:
    """What is seen of the stream; `show` for every pose message."""

    def __init__(self, server: viser.ViserServer) -> None:
        self._server, self._scene = server, server.scene
        self._model = open_body()
        self._skin = coarse(self._model)
        self._people: dict[int, PersonView] = {}
        self._free: list[PersonView] = []
        self._calibration: tuple[str, str] | None = None
        self._aimed = False
        scene = self._scene
        scene.set_up_direction("+y")
        scene.configure_default_lights(cast_shadow=False)
        scene.add_grid(
            "/floor", plane="xz", cell_size=0.5, section_size=1.0, cell_color=(70, 76, 84),
            section_color=(105, 114, 126), infinite_grid=True, fade_distance=22.0, shadow_opacity=0.35,
        )  # fmt: skip
        self._camera = scene.add_camera_frustum(
            "/camera", 0.8, 1.6, scale=FRUSTUM_M, thickness=0.008, color=(235, 235, 235)
        )
        self._name = scene.add_label("/camera/label", "", position=(0.0, -0.45, 0.0), anchor="bottom-center")
        self._aim(_LOOK_M)

    def show(self, message: PoseMessage) -> None:
        """Everybody to where they are; those who left vanish."""
        calibration = message.calibration
        with self._server.atomic():
            if (calibration.id, message.camera) != self._calibration:
                self._calibration = calibration.id, message.camera
                self._place_camera(calibration, message.camera)
            self._keep({person.id for person in message.people})
            for person in message.people:
                if person.id not in self._people:
                    self._people[person.id] = self._view_for(person.id)
                self._people[person.id].show(
                    person, message.t_capture_ns / 1e9, calibration.camera_height_m is not None
                )
        if message.people and not self._aimed:
            self._aimed = True
            self._aim(message.people[0].t_world_root_m)

    def picture(self, jpeg: bytes) -> None:
        """Shows the camera's newest picture, JPEG; it is passed on as it is, which the public setter would not do."""
        self._camera._format = "jpeg"
        self._camera._image_data = jpeg

    def clear(self) -> None:
        """Nobody is there."""
        self._keep(set())

    def _keep(self, ids: set[int]) -> None:
        for gone in self._people.keys() - ids:
            self._free.append(self._people.pop(gone))
            self._free[-1].leave()

    def _view_for(self, track_id: int) -> PersonView:
        new = (self._scene, self._model, self._skin, len(self._people))
        view = self._free.pop() if self._free else PersonView(*new)
        view.take(track_id)
        return view

    def _place_camera(self, calibration: Calibration, name: str) -> None:
        width, height = calibration.size_wh
        self._camera.position = calibration.t_world_camera_m
        self._camera.wxyz = calibration.quat_world_camera_xyzw[[3, 0, 1, 2]]
        self._camera.fov = 2.0 * float(np.arctan2(height / 2.0, calibration.K[1, 1]))
        self._camera.aspect = width / height * float(calibration.K[1, 1] / calibration.K[0, 0])
        if self._name.text != name:
            self._name.text = name

    def _aim(self, at: Array) -> None:
        first = self._server.initial_camera
        first.look_at = at + BESIDE_M
        first.position = at + FROM_M
        first.fov = np.radians(50.0)
