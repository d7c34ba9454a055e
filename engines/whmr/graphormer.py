"""The model-free round: a graph transformer over 431 vertices of the coarse mesh, for a hybrid of both kinds of body.

=============  ================  ==================================================================
coarse         (B, 431, 3)       vertices of the round before, camera axes, metres
sampled        (B, 256, 431)     F3 at their projections
feature        (B, 2144)         of the round's markers: becomes one more, global, token
tokens         (B, 432, 259)     global first
encoder        (B, 432, hidden)  attention, graph residual block (vertices only), feed-forward
offset         (B, 431, 3)       linear head plus a linear residual of the vertex tokens
output         (B, 6890, 3)      learned up-sampling 431 -> 1723 -> 6890
=============  ================  ==================================================================

After Mesh Graphormer (Lin et al., 2021). Released weights have no such round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

COARSE, MIDDLE, FULL = 431, 1723, 6890
VERTEX_TOKEN = 3 + 256
#: A masked vertex token is this value throughout.
MASK_VALUE = 0.01


@dataclass(frozen=True)
class HybridConfig:
    """Sizes of the round; the defaults are those of the published class.

    masked  largest share of vertex tokens hidden while training
    """

    layers: int = 4
    heads: int = 4
    hidden: int = 32
    intermediate: int = 64
    masked: float = 0.3


class GraphBlock(nn.Module):
    """Linear layers around one graph convolution, with a residual: (B, 431, C) -> (B, 431, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm_in, self.norm_mid, self.norm_out = nn.LayerNorm(dim), nn.LayerNorm(dim // 2), nn.LayerNorm(dim // 2)
        self.down, self.mix, self.up = nn.Linear(dim, dim // 2), nn.Linear(dim // 2, dim // 2), nn.Linear(dim // 2, dim)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """adjacency (431, 431), rows of sum 1."""
        y = self.down(F.relu(self.norm_in(x)))
        y = adjacency @ self.mix(F.relu(self.norm_mid(y)))
        return x + self.up(F.relu(self.norm_out(y)))


class GraphLayer(nn.Module):
    """One post-norm encoder layer with the graph block between attention and feed-forward: (B, 432, C)."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        dim = config.hidden
        self.attention = nn.MultiheadAttention(dim, config.heads, batch_first=True)
        self.graph = GraphBlock(dim)
        self.forth, self.back = nn.Linear(dim, config.intermediate), nn.Linear(config.intermediate, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """(B, 432, C), the global token first."""
        x = self.norm1(x + self.attention(x, x, x, need_weights=False)[0])
        x = torch.cat([x[:, :1], self.graph(x[:, 1:], adjacency)], 1)
        return self.norm2(x + self.back(F.gelu(self.forth(x))))


class HybridRound(nn.Module):
    """See the module's table. `set_mesh` gives it the mesh it works on, before training starts."""

    adjacency: Tensor

    def __init__(self, config: HybridConfig, feature: int) -> None:
        super().__init__()
        self.masked = config.masked
        self.global_token = nn.Linear(feature, VERTEX_TOKEN)
        self.embed = nn.Linear(VERTEX_TOKEN, config.hidden)
        self.position = nn.Parameter(0.02 * torch.randn(1, COARSE + 1, config.hidden))
        self.layers = nn.ModuleList([GraphLayer(config) for _ in range(config.layers)])
        self.head = nn.Linear(config.hidden, 3)
        self.residual = nn.Linear(VERTEX_TOKEN, 3)
        self.up1, self.up2 = nn.Linear(COARSE, MIDDLE), nn.Linear(MIDDLE, FULL)
        self.register_buffer("adjacency", torch.eye(COARSE))

    def set_mesh(self, faces: ArrayLike, coarse: ArrayLike) -> None:
        """Neighbourhoods from faces (F, 3) and the down-sampling matrix (431, 6890)."""
        self.adjacency.copy_(torch.from_numpy(coarse_adjacency(faces, coarse)))

    def forward(self, coarse: Tensor, sampled: Tensor, feature: Tensor) -> Tensor:
        """See the module's table."""
        vertex = self._masked(torch.cat([coarse, sampled.mT], 2))
        x = self.embed(torch.cat([self.global_token(feature).unsqueeze(1), vertex], 1)) + self.position
        for layer in self.layers:
            x = layer(x, self.adjacency)
        refined = coarse + self.head(x[:, 1:]) + self.residual(vertex)
        return self.up2(self.up1(refined.mT)).mT

    def _masked(self, vertex: Tensor) -> Tensor:
        if not self.training or self.masked == 0:
            return vertex
        share = self.masked * torch.rand(vertex.shape[0], 1, 1, device=vertex.device)
        hidden = torch.rand(*vertex.shape[:2], 1, device=vertex.device) < share
        return torch.where(hidden, torch.full_like(vertex, MASK_VALUE), vertex)


def coarse_adjacency(faces: ArrayLike, coarse: ArrayLike) -> NDArray[np.float32]:
    """Neighbours (431, 431), each with itself, rows of sum 1, of the coarse vertices of a mesh.

    faces (F, 3), coarse (431, V): each fine vertex belongs to the coarse one whose heaviest vertex is fewest edges
    away; two coarse vertices are neighbours where an edge joins what belongs to them.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    triangles, weights = np.asarray(faces), np.asarray(coarse)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    size = weights.shape[1]
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(size, size)).tocsr()
    seeds = weights.argmax(1)
    _, _, nearest = dijkstra(
        graph, directed=False, indices=seeds, unweighted=True, min_only=True, return_predecessors=True
    )
    number = np.full(size, -1)
    number[seeds] = np.arange(len(seeds))
    pairs = np.where(nearest >= 0, number[np.maximum(nearest, 0)], -1)[edges]
    pairs = pairs[(pairs >= 0).all(1)]
    adjacency = np.eye(len(seeds), dtype=np.float32)
    adjacency[pairs[:, 0], pairs[:, 1]] = adjacency[pairs[:, 1], pairs[:, 0]] = 1
    return adjacency / adjacency.sum(1, keepdims=True)
