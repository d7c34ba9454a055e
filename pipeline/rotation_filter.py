"""A second-order filter of rotations: little lag in what moves steadily, and no belief in what no body can do.

Every bone's turn in the camera is followed by an alpha-beta filter on SO(3) (a Kalman filter of constant angular
velocity with its gains written down: Kalata, The Tracking Index, 1984), then by one low-pass stage. Steps are rotation
vectors in camera axes. Gains rise with the speed at which the measurement leads the output, averaged as a vector:
noise that turns to and fro leads nowhere. (One Euro averages that speed's length, which noise has as well: Casiez et
al., CHI 2012.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.frames import Array, exp_so3, log_so3

#: Time between frames that the gains are meant for; they change with the root of the true one.
_USUAL_S = 1.0 / 30.0
_SLOW_HZ = 1.0
#: How far a bone may be from where it was going, beyond what its noise is, before it is doubted; and for how long.
_REACH_RAD, _REACH_RAD_S = 1.2, 20.0
DOUBT_S = 0.12
_ORTHONORMAL_EVERY = 64


@dataclass(frozen=True)
class TurnGains:
    """Shares for one frame at 30 frames a second and full speed.

    angle       of the innovation that the angle takes
    speed       that the angular velocity takes
    output      of the low-pass after it
    rest        how much of all is left at rest
    lively_s    how much comes back for each rad/s
    """

    angle: float
    speed: float
    output: float
    rest: float = 0.4
    lively_s: float = 0.15


_FADE_S = 1.0 / 3.0


@dataclass(eq=False)
class Turning:
    """What is remembered of J bones of P people.

    Rs         (P, J, 3, 3) followed, in the camera
    spin       (P, J, 3) rad/s in camera axes
    lead       (P, J, 3) rad/s in camera axes, how fast the measurement runs from the output, a slow mean
    behind     (P, J, 3) by how much the output is behind, rotation vectors
    doubted_s  (P, J, 1) for how long what was measured was out of reach
    """

    Rs: Array
    spin: Array
    lead: Array
    behind: Array
    doubted_s: Array
    age: int = 0

    @staticmethod
    def start(Rs: Array) -> Turning:
        """At rest at `Rs` (P, J, 3, 3)."""
        still = np.zeros(Rs.shape[:-1])
        return Turning(Rs, still, still, still, still[..., :1])

    def filtered(self, measured: Array, confidence: Array, dts: Array, gains: TurnGains) -> tuple[Turning, Array]:
        """What is remembered after `measured` (P, J, 3, 3), and the output (P, J, 3, 3).

        confidence  (P, J) 0..1: what is hardly seen moves less
        dts         (P,) > 0 seconds since the last
        """
        dt = dts[:, None, None]
        step = log_so3(measured @ np.swapaxes(self.Rs, -1, -2))
        ahead = self.spin * dt
        off = step - ahead
        far = np.sqrt((off * off).sum(-1, keepdims=True)) > _REACH_RAD + _REACH_RAD_S * dt
        doubted_s = (self.doubted_s + dt) * far
        runs = (step + self.behind) * ~far / dt
        lead = self.lead + (1.0 - np.exp(-2.0 * np.pi * _SLOW_HZ * dt)) * (runs - self.lead)
        speed = np.sqrt((lead * lead).sum(-1, keepdims=True))
        share = np.minimum(gains.rest + gains.lively_s * speed, 1.0)
        usual = (dt / _USUAL_S) ** 0.15
        weight = usual * share * (0.7 + 0.3 * confidence[..., None])
        move = ahead + np.minimum(gains.angle * weight, 0.95) * off
        spin = (self.spin + np.minimum(gains.speed * weight * weight, 0.9) * off / dt) * np.exp(-dt / _FADE_S)
        if far.any():
            # Out of reach: it goes on as it went, until the measurement has stayed there for a while
            believed = doubted_s > DOUBT_S
            move = np.where(far, np.where(believed, step, ahead), move)
            spin = np.where(far, np.where(believed, 0.0, 0.7 * self.spin), spin)
            doubted_s = np.where(believed, 0.0, doubted_s)
        behind = (self.behind + move) * (1.0 - np.minimum(gains.output * weight, 0.97))
        turns = exp_so3(np.stack([move, -behind]))
        Rs = turns[0] @ self.Rs
        if self.age % _ORTHONORMAL_EVERY == 0:
            Rs = 1.5 * Rs - 0.5 * Rs @ np.swapaxes(Rs, -1, -2) @ Rs
        return Turning(Rs, spin, lead, behind, doubted_s, self.age + 1), turns[1] @ Rs
