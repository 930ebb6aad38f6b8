"""Layers of an acquisition that can be read, and the rasters that each of them comes from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from sen2chain.errors import RequestError
from sen2chain.indices import SCALE
from sen2chain.masks import NO_MASK, Mask
from sen2chain.plan import MaskKind, ValueKind, resolve_mask, resolve_sources
from sen2chain.sensor import SENTINEL2, Sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sen2chain.indices import Index
    from sen2chain.plan import MaskSource, Output, Preference, ValueSource
    from sen2chain.products import Acquisition

IndexKey = tuple[str, str]
"""(index name, location of the stored raster): a masked index has another raster for each mask. For an index that is
computed from bands the location is empty."""


@dataclass(frozen=True, slots=True)
class DigitalNumbers:
    """Digital numbers (DN) of a band, as stored."""

    band: str
    """Name of the band."""


@dataclass(frozen=True, slots=True)
class Reflectance:
    """Surface reflectance of a band."""

    band: str
    """Name of the band."""


@dataclass(frozen=True, slots=True)
class IndexValues:
    """Stored values of a radiometric index: the index times its scale, which is 10000 for the twelve."""

    index: Index
    """The index."""


@dataclass(frozen=True, slots=True)
class MaskLayer:
    """A cloud mask, True where masked."""

    mask: Mask
    """The mask."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Values of a quality raster, as stored."""

    name: str
    """Name of the quality raster."""


PixelLayer = DigitalNumbers | Reflectance | IndexValues | MaskLayer | Quality
"""A layer that can be read from an acquisition."""


class ValueRaster(NamedTuple):
    """Role of a raster with digital numbers or index values."""

    is_band: bool
    """Whether it holds digital numbers of a band; otherwise stored values of an index."""
    may_be_coarse: bool
    """Whether its pixels may be larger than the sensor's finest ones."""
    scale: int = SCALE
    """Stored values per unit of the index, where it is one."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerSources:
    """Rasters of the layers to read from one acquisition."""

    sensor: Sensor = SENTINEL2
    """The sensor of the acquisition."""
    bands: Mapping[str, str] = field(default_factory=dict)
    """Band -> location, for digital numbers and reflectance."""
    indices: Mapping[IndexKey, tuple[Index, ValueSource]] = field(default_factory=dict)
    """Indices, and where their values come from."""
    masks: Mapping[str, tuple[Mask, MaskSource]] = field(default_factory=dict)
    """Mask name -> mask, and the rasters that it is read or computed from."""
    quality: Mapping[str, str] = field(default_factory=dict)
    """Quality raster -> location."""

    def values(self) -> dict[str, ValueRaster]:
        """Return the rasters of bands and indices by location."""
        found: dict[str, ValueRaster] = {}
        for index, source in self.indices.values():
            is_band = source.kind is ValueKind.BANDS
            for role, location in source.rasters.items():
                found[location] = ValueRaster(is_band, is_band and not self.sensor.is_finest(role), index.scale)
        for band, location in self.bands.items():
            found[location] = ValueRaster(is_band=True, may_be_coarse=not self.sensor.is_finest(band))
        return found

    def roles(self) -> dict[str, str]:
        """Return location -> band or quality raster, of the rasters that a product consists of."""
        found = {where: name for name, where in (*self.bands.items(), *self.quality.items())}
        for _, value in self.indices.values():
            if value.kind is ValueKind.BANDS:
                found |= {where: band for band, where in value.rasters.items()}
        for _, clouds in self.masks.values():
            if clouds.kind is MaskKind.COMPUTED:
                found |= {where: name for name, where in clouds.rasters.items()}
        return found

    def locations(self) -> set[str]:
        """Return the locations of all rasters."""
        of_masks = (where for _, source in self.masks.values() for where in source.rasters.values())
        return {*self.values(), *of_masks, *self.quality.values()}

    def without(self, is_broken: Callable[[str], bool]) -> LayerSources:
        """Return the layers of which no raster is broken."""
        return replace(
            self,
            bands={band: where for band, where in self.bands.items() if not is_broken(where)},
            indices={k: v for k, v in self.indices.items() if not any(map(is_broken, v[1].rasters.values()))},
            masks={k: v for k, v in self.masks.items() if not any(map(is_broken, v[1].rasters.values()))},
            quality={name: where for name, where in self.quality.items() if not is_broken(where)},
        )

    @classmethod
    def of_outputs(
        cls, outputs: Iterable[Output], sensor: Sensor, quality: Mapping[str, str] | None = None
    ) -> LayerSources:
        """Collect the rasters of outputs: indices under masks.

        Parameters
        ----------
        outputs
            Outputs of one task; those without a source are left out.
        sensor
            The sensor.
        quality
            Quality rasters to read besides.
        """
        outputs = list(outputs)
        return cls(
            sensor=sensor,
            indices={index_key(o): (o.index, o.value) for o in outputs if o.value is not None},
            masks={
                o.mask.name: (o.mask, o.clouds)
                for o in outputs
                if o.clouds is not None and o.clouds.kind in {MaskKind.STORED, MaskKind.COMPUTED}
            },
            quality=quality or {},
        )

    @classmethod
    def of_layers(
        cls, acquisition: Acquisition, layers: Iterable[PixelLayer], prefer: Preference | None = None
    ) -> LayerSources:
        """Find the rasters of layers in an acquisition; `prefer` as for `sen2chain.plan.resolve_sources`.

        Raises
        ------
        RequestError
            If the acquisition lacks the rasters of a layer; the message names them.
        """
        outputs, bands, masks, quality = [], {}, {}, {}
        for layer in layers:
            match layer:
                case DigitalNumbers(name) | Reflectance(name):
                    bands[name] = _location(acquisition, name, is_band=True)
                    if isinstance(layer, Reflectance) and not acquisition.details.has_radiometry:
                        raise RequestError(f"{acquisition.id} does not say the scale and the offset of {name}.")
                case Quality(name):
                    quality[name] = _location(acquisition, name, is_band=False)
                case MaskLayer(mask):
                    source = resolve_mask(acquisition, mask)
                    if source.kind is not MaskKind.NONE:
                        masks[mask.name] = (mask, source)
                case IndexValues(index):
                    output = resolve_sources(acquisition, index, Mask(NO_MASK), prefer)
                    if output.value is None:
                        raise RequestError(f"{acquisition.id}: {output.detail}")
                    outputs.append(output)
        return replace(cls.of_outputs(outputs, acquisition.id.sensor), bands=bands, masks=masks, quality=quality)


def index_key(output: Output) -> IndexKey:
    """Return the key of the values of an output."""
    return output.index.name, output.value.rasters.get("value", "") if output.value else ""


def _location(acquisition: Acquisition, name: str, *, is_band: bool) -> str:
    """Return the location of a band or quality raster of an acquisition."""
    sensor = acquisition.id.sensor
    known = sensor.band(name) if is_band else sensor.quality_raster(name)
    if known is None or name not in acquisition.bands:
        what = "band" if is_band else "quality raster"
        fitting = [n for n in acquisition.bands if (sensor.band(n) is not None) == is_band]
        raise RequestError(f"{acquisition.id} has no {what} {name}; it has {', '.join(fitting) or 'none'}.")
    return acquisition.bands[name]
