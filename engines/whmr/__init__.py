"""The network of W-HMR (Yao et al., arXiv 2311.17460) for the released ViTPose-B weights, one module a file.

`network.WHMR` is the whole; `checkpoint.load` fills it from the released checkpoint or from what `convert` wrote;
`parts` cuts it into the engines that are exported. Importing this package imports nothing else.

Two frames beside those of `pipeline.frames`: `level` is the network's world, the camera's axes turned upright (x right,
y down, z forward, gravity along +y, no heading of its own); `p_camera = R_camera_level @ p_level`.
"""
