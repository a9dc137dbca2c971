"""Normalisation that ignores padding."""

from __future__ import annotations

from torch import Tensor, nn


class MaskedGroupNorm(nn.GroupNorm):
    """Group normalisation with statistics of the valid locations only, so that padding changes no prediction."""

    def forward(self, features: Tensor, mask_x: Tensor | None = None, mask_y: Tensor | None = None) -> Tensor:
        """Normalise a map.

        Args:
            features: (B, C, H, W).
            mask_x: (B, W), mask_y: (B, H): boolean, True = valid; None where nothing is padded.

        Returns:
            (B, C, H, W); the values at padded locations are undefined.
        """
        if mask_x is None or mask_y is None:
            return super().forward(features)
        grouped = features.float().unflatten(1, (self.num_groups, -1))
        valid = (mask_y[:, :, None] & mask_x[:, None, :]).float()[:, None, None]
        count = valid.sum(dim=(2, 3, 4), keepdim=True) * grouped.shape[2]
        mean = (grouped * valid).sum(dim=(2, 3, 4), keepdim=True) / count
        centred = grouped - mean
        variance = (centred.square() * valid).sum(dim=(2, 3, 4), keepdim=True) / count
        normalised = (centred * (variance + self.eps).rsqrt()).view_as(features)
        return (normalised * self.weight[:, None, None] + self.bias[:, None, None]).to(features.dtype)
