"""Anchor DETR with the original implementation's order of operations: the baseline of speed measurements.

Written from the paper and the golden cases. Parameters have the original's names, so that its checkpoints load;
`anchordetr.weights.official_names.from_original` converts the weights to those of the library.

What it does as the original does, and the library does not:

- frozen batch norm is a product and a sum after each convolution;
- attention has five projections, each at full resolution; keys are projected, then averaged;
- Z, the output of the row attention, is in memory for all queries;
- positions and masks are repeated for each location, and the positions of the queries are encoded again in every layer;
- every layer predicts classes and boxes, in inference too;
- the matching of each layer copies the costs of all queries and all objects of the batch to the CPU
  (`original_criterion.py`).

`benchmarks/against_the_original.py` runs the comparison.
"""

from __future__ import annotations

import copy
import math

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

Outputs = dict[str, Tensor]


def sine(coordinate: Tensor, channels: int) -> Tensor:
    """Encode (...) in [0, 1] as sines and cosines in turn: (..., channels)."""
    exponent = 2 * torch.div(torch.arange(channels), 2, rounding_mode="floor") / channels
    angle = coordinate.unsqueeze(-1) * (2 * math.pi) / 10000**exponent
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)


def sine_2d(points: Tensor, channels: int) -> Tensor:
    """Encode points x, y (..., 2), the encoding of y first: (..., channels)."""
    return torch.cat((sine(points[..., 1], channels // 2), sine(points[..., 0], channels // 2)), dim=-1)


def inverse_sigmoid(x: Tensor) -> Tensor:
    """Return the logit of numbers in [0, 1], which are clamped first."""
    x = x.clamp(0, 1)
    return (x.clamp(min=1e-5) / (1 - x).clamp(min=1e-5)).log()


class RowColumnAttention(nn.Module):
    """Row-column decoupled attention; row acts along the width, col along the height."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(5 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(5 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(
        self, query_row: Tensor, query_col: Tensor, key_row: Tensor, key_col: Tensor, value: Tensor, padding: Tensor
    ) -> Tensor:
        """Queries (B, N, C), keys and value (B, H, W, C), padding (B, H, W) True = padding -> (B, N, C)."""
        inputs = (query_row, query_col, key_row, key_col, value)
        parts = zip(inputs, self.in_proj_weight.chunk(5), self.in_proj_bias.chunk(5), strict=True)
        q_row, q_col, k_row, k_col, v = (F.linear(*part) for part in parts)
        batch, height, width, channels = v.shape
        valid = (~padding).unsqueeze(-1)
        k_row = (k_row * valid).sum(1) / valid.sum(1).clamp(min=1)
        k_col = (k_col * valid).sum(2) / valid.sum(2).clamp(min=1)
        a_row = self._weights(q_row, k_row, padding.all(dim=1))
        a_col = self._weights(q_col, k_col, padding.all(dim=2))
        depth = channels // self.heads
        v = v.view(batch, height, width, self.heads, depth).permute(0, 3, 2, 1, 4)
        v = v.reshape(batch * self.heads, width, height * depth)
        z = torch.bmm(a_row, v).view(batch * self.heads, -1, height, depth)
        heads = torch.matmul(a_col.unsqueeze(2), z).squeeze(2)
        heads = heads.view(batch, self.heads, -1, depth).transpose(1, 2).reshape(batch, -1, channels)
        return self.out_proj(heads)

    def _weights(self, query: Tensor, key: Tensor, padding: Tensor) -> Tensor:
        """Attention (B·M, N, S) of queries (B, N, C) over keys (B, S, C)."""
        batch, _, channels = query.shape
        q = (query * (channels // self.heads) ** -0.5).unflatten(-1, (self.heads, -1)).transpose(1, 2).flatten(0, 1)
        k = key.unflatten(-1, (self.heads, -1)).transpose(1, 2).flatten(0, 1)
        logits = torch.bmm(q, k.transpose(1, 2)).view(batch, self.heads, query.shape[1], -1)
        logits = logits.masked_fill(padding[:, None, None, :], float("-inf"))
        return logits.softmax(dim=-1).flatten(0, 1)


class FeedForward(nn.Module):
    """Two linear layers, a residual connection, a norm."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class EncoderLayer(nn.Module):
    """RCDA of the map with itself, then the feed-forward part."""

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = RowColumnAttention(channels, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.ffn = FeedForward(channels, hidden)

    def forward(self, x: Tensor, padding: Tensor, pos_row: Tensor, pos_col: Tensor) -> Tensor:
        """x (B, C, H, W), padding (B, H, W), positions (B, W, C) and (B, H, C) -> (B, C, H, W)."""
        batch, channels, height, width = x.shape
        pos_row = pos_row.unsqueeze(1).repeat(1, height, 1, 1)
        pos_col = pos_col.unsqueeze(2).repeat(1, 1, width, 1)
        x = x.permute(0, 2, 3, 1)
        rows, columns = x + pos_row, x + pos_col
        locations = height * width
        queries = rows.reshape(batch, locations, channels), columns.reshape(batch, locations, channels)
        output = self.self_attn(*queries, rows, columns, x, padding)
        x = self.norm1(x + output.view(batch, height, width, channels))
        return self.ffn(x).permute(0, 3, 1, 2)


class DecoderLayer(nn.Module):
    """Self-attention between queries, RCDA to the map, the feed-forward part."""

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.cross_attn = RowColumnAttention(channels, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.self_attn = nn.MultiheadAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = FeedForward(channels, hidden)

    def forward(
        self,
        x: Tensor,
        points: Tensor,
        memory: Tensor,
        padding: Tensor,
        pos_row: Tensor,
        pos_col: Tensor,
        adapt_1d: nn.Module,
        adapt_2d: nn.Module,
    ) -> Tensor:
        """x (B, Q, C), points (B, Q, 2), memory (B, C, H, W), padding (B, H, W) -> (B, Q, C)."""
        channels = x.shape[-1]
        query_pos = adapt_2d(sine_2d(points, channels))
        keys = (x + query_pos).transpose(0, 1)
        x = self.norm2(x + self.self_attn(keys, keys, x.transpose(0, 1))[0].transpose(0, 1))
        query_row = x + adapt_1d(sine(points[..., 0], channels))
        query_col = x + adapt_1d(sine(points[..., 1], channels))
        height, width = memory.shape[-2:]
        memory = memory.permute(0, 2, 3, 1)
        key_row = memory + pos_row.unsqueeze(1).repeat(1, height, 1, 1)
        key_col = memory + pos_col.unsqueeze(2).repeat(1, 1, width, 1)
        x = self.norm1(x + self.cross_attn(query_row, query_col, key_row, key_col, memory, padding))
        return self.ffn(x)


class BoxHead(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(channels, channels), nn.Linear(channels, channels)])
        self.layers.append(nn.Linear(channels, 4))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., 4)."""
        return self.layers[2](self.layers[1](self.layers[0](x).relu()).relu())


class Transformer(nn.Module):
    """Encoder, decoder, and the heads that all layers share."""

    def __init__(self, classes: int, layers: int, channels: int, heads: int, hidden: int, anchors: int) -> None:
        super().__init__()
        sizes = (channels, heads, hidden)
        self.encoder_layers = nn.ModuleList(EncoderLayer(*sizes) for _ in range(layers))
        self.decoder_layers = nn.ModuleList(DecoderLayer(*sizes) for _ in range(layers))
        self.pattern = nn.Embedding(3, channels)
        self.position = nn.Embedding(anchors, 2)
        self.adapt_pos2d = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.adapt_pos1d = copy.deepcopy(self.adapt_pos2d)
        self.class_embed = nn.ModuleList([nn.Linear(channels, classes)] * layers)
        self.bbox_embed = nn.ModuleList([BoxHead(channels)] * layers)
        nn.init.uniform_(self.position.weight)

    def forward(self, x: Tensor, padding: Tensor) -> Outputs:
        """x (B, C, H, W), padding (B, H, W) -> logits (L, B, Q, K), boxes (L, B, Q, 4)."""
        batch, channels = x.shape[:2]
        patterns, anchors = len(self.pattern.weight), len(self.position.weight)
        content = self.pattern.weight.reshape(1, patterns, 1, channels).repeat(batch, 1, anchors, 1).flatten(1, 2)
        points = self.position.weight.unsqueeze(0).repeat(batch, patterns, 1)
        valid = ~padding
        rows, columns = valid[:, :, 0].float().cumsum(1), valid[:, 0, :].float().cumsum(1)
        pos_row = self.adapt_pos1d(sine((columns - 0.5) / columns[:, -1:], channels))
        pos_col = self.adapt_pos1d(sine((rows - 0.5) / rows[:, -1:], channels))
        for layer in self.encoder_layers:
            x = layer(x, padding, pos_row, pos_col)
        logits, boxes = [], []
        for index, layer in enumerate(self.decoder_layers):
            content = layer(content, points, x, padding, pos_row, pos_col, self.adapt_pos1d, self.adapt_pos2d)
            offset = self.bbox_embed[index](content)
            centre = offset[..., :2] + inverse_sigmoid(points)
            logits.append(self.class_embed[index](content))
            boxes.append(torch.cat((centre, offset[..., 2:]), dim=-1).sigmoid())
        return {"logits": torch.stack(logits), "boxes": torch.stack(boxes)}


class AnchorDETR(nn.Module):
    """ResNet-50 with a dilated last stage (DC5), one projection, the transformer."""

    def __init__(
        self,
        classes: int = 91,
        layers: int = 6,
        channels: int = 256,
        heads: int = 8,
        hidden: int = 1024,
        anchors: int = 300,
    ) -> None:
        super().__init__()
        resnet = torchvision.models.resnet50(
            weights=None, replace_stride_with_dilation=[False, False, True], norm_layer=FrozenBatchNorm2d
        )
        for name, parameter in resnet.named_parameters():
            parameter.requires_grad_(name.startswith(("layer2", "layer3", "layer4")))
        self.backbone = nn.ModuleDict({"body": IntermediateLayerGetter(resnet, {"layer4": "0"})})
        projection = nn.Sequential(nn.Conv2d(2048, channels, 1), nn.GroupNorm(32, channels))
        self.input_proj = nn.ModuleList([projection])
        self.transformer = Transformer(classes, layers, channels, heads, hidden, anchors)

    def forward(self, pixels: Tensor, padding: Tensor) -> Outputs:
        """Normalised pixels (B, 3, H, W), padding (B, H, W) True = padding -> outputs of all layers."""
        features = self.backbone["body"](pixels)["0"]
        small = F.interpolate(padding[None].float(), size=features.shape[-2:])[0].bool()
        return self.transformer(self.input_proj[0](features), small)
