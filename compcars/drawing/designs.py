"""The parameters that distinguish car models.

The models of a make share a family face: shape, pattern and trim of the grille, and the badge. They
differ in body type, proportions, lamps, air intakes, window line and wheels, so telling two models
of one make apart takes a close look. Paint is not part of a design.
"""

from dataclasses import dataclass, replace

import numpy as np

from compcars.drawing.lamps import LAMPS, Lamp


@dataclass(frozen=True)
class Body:
    """Proportions, in meters unless noted."""

    kind: str  # one of BODIES
    length: float
    width: float
    height: float
    clearance: float  # road to sill
    nose: float  # height of the hood at the front end
    cowl: float  # height of the windshield base
    deck: float  # height of the rear window base
    hood: float  # front end to windshield base
    rake: float  # horizontal run of the windshield
    tail: float  # rear end to rear window base
    back: float  # horizontal run of the rear window
    wheel: float  # radius of the tire
    front_overhang: float
    rear_overhang: float
    roundness: float  # in plan view, 0: square, 1: rounded corners
    roof_width: float  # as a fraction of the width
    dome: float  # height of the hood bulge
    lean: float  # distance of the upper edge of the nose behind the bumper


@dataclass(frozen=True)
class Face:
    """The front, in shell coordinates: q as a fraction of the half width, v of the height."""

    grille: str  # one of GRILLES
    pattern: str  # one of PATTERNS
    bars: int
    grille_width: float
    grille_top: float
    grille_height: float
    frame: float  # width of the grille's frame; 0: none
    chrome: bool  # chrome bars and frame, else black
    badge: str
    lamp: Lamp
    light: str  # daytime running light, one of LIGHTS
    projectors: int
    intake: str  # one of INTAKES
    intake_width: float
    intake_height: float
    fog: str  # one of FOGS
    fog_at: float


@dataclass(frozen=True)
class Flank:
    """The sides and the glasshouse."""

    kick: float  # rise of the window line toward the rear
    pillar: float  # width of the rear pillar, in q
    quarter: bool  # a small window behind the rear door
    crease: float  # height of the character line, in v
    cladding: bool  # black plastic around the wheel arches
    rails: bool  # roof rails
    mirror: float  # size factor
    window_frame: bool  # chrome window frame


@dataclass(frozen=True)
class Tail:
    """The rear, in shell coordinates like the front (q from the middle of the rear)."""

    lamp: Lamp
    bar: str  # between the lamps: none, chrome or red
    plate_low: float
    pipes: int
    skirt: float  # height of the black lower edge, in v


@dataclass(frozen=True)
class Wheels:
    spokes: int
    spread: float  # width of a spoke at the rim
    taper: float  # width at the hub, relative to the rim
    twin: bool  # spokes in pairs
    dark: bool


@dataclass(frozen=True)
class Design:
    """A car model; ``make`` is the number of its make, from 0."""

    make: int
    body: Body
    face: Face
    flank: Flank
    tail: Tail
    wheels: Wheels


# length, width, height, clearance, nose, cowl, deck, hood, rake, tail, back, roundness, lean
BODIES = {
    "sedan": (4.75, 1.82, 1.45, 0.19, 0.77, 1.00, 1.05, 1.28, 0.80, 0.55, 0.75, 0.6, 0.16),
    "SUV": (4.65, 1.88, 1.74, 0.28, 0.98, 1.18, 1.20, 1.15, 0.55, 0.08, 0.42, 0.3, 0.10),
    "hatchback": (4.15, 1.74, 1.50, 0.19, 0.78, 1.02, 1.08, 0.98, 0.78, 0.08, 0.40, 0.7, 0.18),
    "MPV": (4.60, 1.82, 1.67, 0.20, 0.84, 1.06, 1.08, 0.88, 0.95, 0.06, 0.35, 0.6, 0.24),
    "sports": (4.40, 1.88, 1.29, 0.15, 0.68, 0.92, 0.98, 1.38, 0.82, 0.30, 0.90, 0.8, 0.26),
    "crossover": (4.35, 1.82, 1.60, 0.24, 0.88, 1.10, 1.14, 1.02, 0.68, 0.08, 0.52, 0.6, 0.15),
    "estate": (4.72, 1.80, 1.48, 0.18, 0.77, 1.00, 1.04, 1.25, 0.78, 0.08, 0.45, 0.5, 0.16),
    "minibus": (4.90, 1.84, 1.94, 0.20, 0.90, 1.10, 1.12, 0.50, 0.60, 0.04, 0.16, 0.3, 0.16),
    "fastback": (4.85, 1.86, 1.40, 0.17, 0.74, 0.97, 1.04, 1.32, 0.85, 0.36, 1.15, 0.7, 0.20),
}

GRILLES = ("trapezoid", "hexagon", "shield", "kidney", "smile", "slot", "oval", "stacked")
PATTERNS = ("horizontal", "vertical", "mesh", "single", "cross")
LIGHTS = ("none", "below", "above", "edge", "ring")
INTAKES = ("wide", "trapezoid", "triple", "smile", "slim")
FOGS = ("none", "round", "slit", "triangle")
BADGES = ("disc", "oval", "bar", "diamond", "wing", "shield")
ORDER_OF_BODIES = tuple(BODIES)


def draw_designs(n_model: int, seed: int) -> list[Design]:
    """Return ``n_model`` designs, four per make; a larger ``n_model`` only appends designs.

    >>> designs = draw_designs(9, seed=7)
    >>> [design.make for design in designs]
    [0, 0, 0, 0, 1, 1, 1, 1, 2]
    >>> draw_designs(2, seed=7) == designs[:2]
    True
    """
    shuffled = np.random.default_rng([seed, 0])
    # Shuffled lists instead of independent draws, so that makes and models differ.
    grilles, patterns, badges = (shuffled.permutation(x) for x in (GRILLES, PATTERNS, BADGES))
    lamps, bodies = shuffled.permutation(list(LAMPS)), shuffled.permutation(ORDER_OF_BODIES)
    designs = []
    for i in range(n_model):
        make, sibling = divmod(i, 4)
        family = np.random.default_rng([seed, 1, make])
        rng = np.random.default_rng([seed, 2, i])
        chrome, frame = bool(family.random() < 0.6), float(family.choice([0.0, 0.02, 0.035]))
        shape = str(lamps[(2 * make + sibling) % len(lamps)])
        face = _face(rng, sibling, shape)
        face = replace(
            face,
            grille=str(grilles[make % len(grilles)]),
            pattern=str(patterns[make % len(patterns)]),
            badge=str(badges[make % len(badges)]),
            chrome=chrome,
            frame=frame,
        )
        body = _body(rng, str(bodies[(3 * make + 2 * sibling + make // 3) % len(bodies)]))
        designs.append(
            Design(make, body, face, _flank(rng, body), _tail(rng, sibling), _wheels(rng))
        )
    return designs


def facelift(design: Design, seed: int) -> Design:
    """Return the design after a facelift: the same body with other trim and wheels."""
    rng = np.random.default_rng([seed, 3, round(design.body.length * 1e6)])
    face = replace(
        design.face,
        light=str(rng.choice(LIGHTS)),
        fog=str(rng.choice(FOGS)),
        bars=design.face.bars + int(rng.integers(0, 2)),
        intake_height=design.face.intake_height * rng.uniform(0.9, 1.15),
    )
    return replace(design, face=face, wheels=_wheels(rng))


def _body(rng: np.random.Generator, kind: str) -> Body:
    numbers = np.array(BODIES[kind]) * rng.uniform(0.965, 1.035, 13)
    length, width, height, clearance, nose, cowl, deck, hood, rake, tail, back, roundness, lean = (
        numbers.tolist()
    )
    return Body(
        kind=kind,
        length=length,
        width=width,
        height=height,
        clearance=clearance,
        nose=nose,
        cowl=cowl,
        deck=deck,
        hood=hood,
        rake=rake,
        tail=tail,
        back=back,
        wheel=0.30 + 0.05 * (height - 1.3) / 0.4 + rng.uniform(-0.01, 0.03),
        front_overhang=min(0.86 * length / 4.6, hood + 0.35),
        rear_overhang=0.92 * length / 4.6,
        roundness=float(np.clip(roundness + rng.uniform(-0.3, 0.3), 0, 1)),
        roof_width=rng.uniform(0.68, 0.80) + 0.06 * (kind in ("minibus", "SUV", "MPV")),
        dome=float(rng.choice([0.0, 0.0, 0.03, 0.05])),
        lean=lean * rng.uniform(0.6, 1.4),
    )


def _face(rng: np.random.Generator, sibling: int, shape: str) -> Face:
    """Return the face of a make's ``sibling``-th model; the caller sets the family's parts."""
    lamp_inner = rng.uniform(0.42, 0.68)
    lamp_height = (0.21, 0.37, 0.28, 0.46)[sibling] * rng.uniform(0.9, 1.1)
    return Face(
        grille="",
        pattern="",
        bars=int(rng.integers(3, 6)),
        grille_width=min(rng.uniform(0.28, 0.66), lamp_inner + 0.02),
        grille_top=rng.uniform(0.86, 0.95),
        grille_height=(0.22, 0.36, 0.50, 0.29)[(sibling + int(rng.integers(2))) % 4],
        frame=0.0,
        chrome=True,
        badge="",
        lamp=Lamp(
            shape,
            inner=lamp_inner,
            outer=rng.uniform(0.99, 1.14),
            low=rng.uniform(0.86, 0.92) - lamp_height,
            height=lamp_height,
            slant=rng.uniform(-0.02, 0.12),
        ),
        light=str(rng.choice(LIGHTS)),
        projectors=int(rng.integers(1, 3)),
        intake=INTAKES[(sibling + int(rng.integers(3))) % len(INTAKES)],
        intake_width=rng.uniform(0.45, 0.75),
        intake_height=rng.uniform(0.14, 0.26),
        fog=FOGS[(sibling + int(rng.integers(2))) % len(FOGS)],
        fog_at=rng.uniform(0.68, 0.86),
    )


def _flank(rng: np.random.Generator, body: Body) -> Flank:
    rugged = body.kind in ("SUV", "crossover")
    return Flank(
        kick=rng.uniform(0.0, 0.22),
        pillar=rng.uniform(0.08, 0.28),
        quarter=bool(rng.random() < 0.5),
        crease=rng.uniform(0.62, 0.82),
        cladding=rugged and bool(rng.random() < 0.7),
        rails=body.kind in ("SUV", "crossover", "estate", "MPV") and bool(rng.random() < 0.6),
        mirror=rng.uniform(0.85, 1.2),
        window_frame=bool(rng.random() < 0.4),
    )


def _tail(rng: np.random.Generator, sibling: int) -> Tail:
    height = (0.20, 0.30, 0.38, 0.26)[sibling] * rng.uniform(0.9, 1.1)
    return Tail(
        lamp=Lamp(
            str(rng.choice(list(LAMPS))),
            inner=rng.uniform(0.45, 0.72),
            outer=rng.uniform(1.01, 1.12),
            low=rng.uniform(0.84, 0.92) - height,
            height=height,
            slant=rng.uniform(-0.03, 0.08),
        ),
        bar=str(rng.choice(["none", "chrome", "red"])),
        plate_low=float(rng.choice([0.30, 0.56])),
        pipes=int(rng.integers(0, 3)),
        skirt=rng.uniform(0.08, 0.24),
    )


def _wheels(rng: np.random.Generator) -> Wheels:
    return Wheels(
        spokes=int(rng.choice([5, 6, 7, 8, 10])),
        spread=rng.uniform(0.35, 0.7),
        taper=rng.uniform(0.4, 1.2),
        twin=bool(rng.random() < 0.3),
        dark=bool(rng.random() < 0.3),
    )
