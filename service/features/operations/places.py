"""Where a row lies on the Earth: distances, bearing, grid cells. Latitudes and longitudes are in degrees (WGS 84)."""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta

from service.features.operations.expression import Columns, Expression, Part, Rows
from service.features.operations.parameters import NumberColumn
from service.features.operations.values import ValueOperation

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""
RADIANS = math.pi / 180
MAX_LATITUDE = 90
MAX_LONGITUDE = 360
"""Longitudes are counted from -180 to 180 or from 0 to 360."""
NO_PLACE = "where any of the columns is null, a latitude lies beyond ±90° or a longitude beyond ±360°"
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
HAVERSINE = (
    "POWER(SIN((:lat2 - :lat1) * :rad / 2), 2) + "
    "COS(:lat1 * :rad) * COS(:lat2 * :rad) * POWER(SIN((:lon2 - :lon1) * :rad / 2), 2)"
)
SOURCE = "the haversine formula on a sphere of 6371.0088 km (IUGG)"


def place(columns: Columns, latitude: str, longitude: str) -> tuple[Expression, Expression]:
    """The columns' values where they are a place on the Earth, each null where it is none."""
    text = "CASE WHEN ABS(:angle) <= :limit THEN :angle END"
    angles = ((latitude, MAX_LATITUDE), (longitude, MAX_LONGITUDE))
    north, east = (columns.sql(text, angle=columns.finite(name), limit=limit) for name, limit in angles)
    return north, east


def distance(columns: Columns, start: tuple[Part, Part], end: tuple[Part, Part]) -> Expression:
    """Kilometres between two places, each a latitude and a longitude."""
    angle = columns.sql(HAVERSINE, rad=RADIANS, lat1=start[0], lon1=start[1], lat2=end[0], lon2=end[1])
    rounded = "CASE WHEN :angle > 1 THEN 1 ELSE :angle END"  # at the other end of the Earth
    return columns.sql(f"2 * :radius * ASIN(SQRT({rounded}))", radius=EARTH_RADIUS_KM, angle=angle)


class Distance(ValueOperation, frozen=True, tag="distance"):
    """Kilometres along the surface between two places, each given by two columns."""

    latitude: NumberColumn
    longitude: NumberColumn
    to_latitude: NumberColumn
    to_longitude: NumberColumn

    gives = "number"
    nulls = NO_PLACE
    formula = "2 r · asin √(sin²(Δφ/2) + cos φ₁ · cos φ₂ · sin²(Δλ/2))"
    source = SOURCE
    example = '{"latitude": "amount", "longitude": "items", "to_latitude": "items", "to_longitude": "amount"}'

    def compile(self, rows: Rows) -> Expression:
        """Measure the great circle."""
        start = place(rows, self.latitude, self.longitude)
        return distance(rows, start, place(rows, self.to_latitude, self.to_longitude))


class DistanceToPoint(ValueOperation, frozen=True, tag="distance_to_point"):
    """Kilometres along the surface from a place, given by two columns, to a fixed point."""

    latitude: NumberColumn
    longitude: NumberColumn
    point_latitude: Latitude
    point_longitude: Longitude

    gives = "number"
    nulls = NO_PLACE
    formula = "2 r · asin √(sin²(Δφ/2) + cos φ₁ · cos φ₂ · sin²(Δλ/2))"
    source = SOURCE
    example = '{"latitude": "amount", "longitude": "items", "point_latitude": 52.37, "point_longitude": 4.9}'

    def compile(self, rows: Rows) -> Expression:
        """Measure the great circle."""
        start = place(rows, self.latitude, self.longitude)
        return distance(rows, start, (self.point_latitude, self.point_longitude))


class Bearing(ValueOperation, frozen=True, tag="bearing"):
    """The direction from one place to another at the start, in degrees clockwise from north, 0 … 360."""

    latitude: NumberColumn
    longitude: NumberColumn
    to_latitude: NumberColumn
    to_longitude: NumberColumn

    gives = "number"
    nulls = NO_PLACE
    formula = "atan2(sin Δλ · cos φ₂, cos φ₁ · sin φ₂ - sin φ₁ · cos φ₂ · cos Δλ), modulo 360°; 0 at the same place"
    source = "the forward azimuth on a sphere"
    example = '{"latitude": "amount", "longitude": "items", "to_latitude": "items", "to_longitude": "amount"}'

    def compile(self, rows: Rows) -> Expression:
        """Take the initial direction of the great circle."""
        east = "SIN((:lon2 - :lon1) * :rad) * COS(:lat2 * :rad)"
        north = (
            "COS(:lat1 * :rad) * SIN(:lat2 * :rad) - "
            "SIN(:lat1 * :rad) * COS(:lat2 * :rad) * COS((:lon2 - :lon1) * :rad)"
        )
        lat1, lon1 = place(rows, self.latitude, self.longitude)
        lat2, lon2 = place(rows, self.to_latitude, self.to_longitude)
        angle = rows.sql(f"ATAN2({east}, {north}) / :rad", rad=RADIANS, lat1=lat1, lon1=lon1, lat2=lat2, lon2=lon2)
        return rows.sql("CASE WHEN :angle < 0 THEN :angle + 360 ELSE :angle END", angle=angle)


class GridCell(ValueOperation, frozen=True, tag="grid_cell"):
    """The cell of a grid of latitudes and longitudes that holds the place, by its south-western corner."""

    latitude: NumberColumn
    longitude: NumberColumn
    degrees: Annotated[float, Meta(ge=0.01, le=45)] = 1.0

    gives = "string"
    publishes_values = True
    nulls = NO_PLACE
    formula = "⌊latitude / degrees⌋ : ⌊longitude / degrees⌋"
    source = "an equal-angle grid"
    example = '{"latitude": "amount", "longitude": "items", "degrees": 0.5}'

    def compile(self, rows: Rows) -> Expression:
        """Number the cell."""
        text = "CAST(CAST(FLOOR(:angle / :step) AS BIGINT) AS VARCHAR)"
        angles = place(rows, self.latitude, self.longitude)
        south, west = (rows.sql(text, angle=angle, step=self.degrees) for angle in angles)
        return rows.sql(":south || ':' || :west", south=south, west=west)
