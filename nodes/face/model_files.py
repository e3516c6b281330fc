"""The engine, masks and restorers made from the model files of a ComfyUI installation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from ..errors import UserInputError
from .attributes import FaceAttributes
from .contracts import (
    ATTRIBUTES,
    CONVERTERS,
    DETECTORS,
    OCCLUDERS,
    PARSERS,
    RECOGNISERS,
    RESTORERS,
    SWAPPERS,
    Converted,
    SwapperContract,
)
from .engines import FaceEngine, classic_engine
from .insightface_pack import open_pack
from .mask_models import FaceParser, Occluder
from .model_folders import AUTOMATIC, pack_path, packs, path_of, present, resolve
from .onnx_engine import Detector, Embedder, OnnxEngine
from .recogniser import Recogniser
from .restorer import OnnxRestorer
from .runtime.managed import open_managed
from .runtime.session import Device, Session
from .runtime.sessions import Precision, Runtime
from .scrfd import Scrfd
from .swapper import Swapper

__all__ = [
    "AUTOMATIC",
    "NONE",
    "Precision",
    "Runtime",
    "detector_files",
    "load_engine",
    "load_occluder",
    "load_parser",
    "load_restorer",
    "occluder_files",
    "parser_files",
    "recogniser_files",
    "restorer_files",
    "swapper_files",
]

NONE = "none"


class Network(Protocol):
    """What the report says of a session or a pack."""

    path: Path
    provider: str
    note: str


def detector_files() -> list[str]:
    """SCRFD files and newer packs of this installation, as folder/name."""
    return [*present(DETECTORS), *packs()]


def recogniser_files() -> list[str]:
    """ArcFace files and newer packs of this installation."""
    return [*present(RECOGNISERS), *packs()]


def swapper_files() -> list[str]:
    """Swapper files of this installation."""
    return present(SWAPPERS)


def restorer_files() -> list[str]:
    """Restorer files of this installation."""
    return present(RESTORERS)


def occluder_files() -> list[str]:
    """XSeg files of this installation."""
    return present(OCCLUDERS)


def parser_files() -> list[str]:
    """BiSeNet files of this installation."""
    return present(PARSERS)


def load_engine(
    engine: Literal["auto", "classic", "onnx"],
    runtime: Runtime,
    device: Device,
    precision: Precision,
    detector: str,
    recogniser: str,
    swapper: str,
    attributes: bool,
) -> tuple[FaceEngine, str]:
    """An engine, and a report of what was chosen, where each network runs, and why.

    auto is the onnx engine where its three networks are there, else the classic one. detector, recogniser and swapper
    are of the lists above, or ``automatic``. attributes: also read sex and age, and the contour where its network is
    there.

    Raises:
        UserInputError: ``model_missing``, ``onnx_contract``, or what opening a session or a pack raises.
    """
    if engine == "classic":
        return classic_engine(), "classic: chosen"
    try:
        chosen = _choose(detector, recogniser, swapper)
    except UserInputError as error:
        if engine == "onnx" or error.code != "model_missing":
            raise
        return classic_engine(), f"classic: {error.problem}"
    return _Loader(runtime, device, precision).engine(*chosen, attributes)


def load_restorer(name: str, runtime: Runtime, device: Device, precision: Precision) -> OnnxRestorer:
    """A restorer of ``restorer_files``."""
    path, contract = resolve("restorer", name, RESTORERS)
    return OnnxRestorer(open_managed(path, runtime, device, precision), contract)


def load_occluder(name: str, runtime: Runtime, device: Device, precision: Precision) -> Occluder:
    """An occluder of ``occluder_files``."""
    path, contract = resolve("occluder", name, OCCLUDERS)
    return Occluder(open_managed(path, runtime, device, precision), contract)


def load_parser(name: str, runtime: Runtime, device: Device, precision: Precision) -> FaceParser:
    """A face parser of ``parser_files``."""
    path, contract = resolve("parser", name, PARSERS)
    return FaceParser(open_managed(path, runtime, device, precision), contract)


def _choose(detector: str, recogniser: str, swapper: str) -> tuple[Path, Path, Path]:
    """The detector's, recogniser's and swapper's files; of packs, their folders."""
    there = packs()
    swapper_path, contract = resolve("swapper", swapper, SWAPPERS)
    detector_path = pack_path(detector) if detector in there else resolve("detector", detector, DETECTORS)[0]
    if recogniser in there:
        return detector_path, pack_path(recogniser), swapper_path
    # Embeddings of another network would draw another person.
    suited = [row for row in RECOGNISERS if contract.space in ("", row.space)]
    rows = suited if recogniser == AUTOMATIC else RECOGNISERS
    return detector_path, resolve("recogniser", recogniser, rows)[0], swapper_path


class _Loader:
    """Opens networks with one choice of runtime, device and precision, and keeps account of them."""

    def __init__(self, runtime: Runtime, device: Device, precision: Precision) -> None:
        self._choice = (runtime, device, precision)
        self._networks: list[Network] = []
        self._notes: list[str] = []

    def engine(self, detector: Path, recogniser: Path, swapper: Path, attributes: bool) -> tuple[FaceEngine, str]:
        """The engine of three files or packs, and the report."""
        finder, embedder = self._detector(detector), self._recogniser(recogniser)
        contract = next(row for row in SWAPPERS if swapper.name in row.names)
        if contract.space not in ("", embedder.space):
            self._notes.append(f"{contract.name} needs embeddings of {contract.space}.onnx and cannot swap with these")
        drawer = self._swapper(swapper, contract)
        readers = self._attributes() if attributes else []
        provider = ", ".join(sorted({network.provider for network in self._networks}))
        return OnnxEngine(finder, embedder, drawer, readers, provider), _report(self._networks, self._notes)

    def _detector(self, path: Path) -> Detector:
        if not path.is_dir():
            return Scrfd(self._open(path))
        pack = open_pack(path, self._choice[1])
        self._networks.append(pack)
        return pack

    def _recogniser(self, path: Path) -> Embedder:
        if not path.is_dir():
            return Recogniser(self._open(path), next(row for row in RECOGNISERS if path.name in row.names))
        pack = open_pack(path, self._choice[1])
        if pack not in self._networks:
            self._networks.append(pack)
        return pack

    def _swapper(self, path: Path, contract: SwapperContract) -> Swapper:
        session, converter = self._open(path), None
        if isinstance(contract.source, Converted):
            needed = contract.source.converter
            found = present([row for row in CONVERTERS if row.name == needed])
            converter = self._open(path_of(found[0])) if found else None
        return Swapper(session, contract, converter)

    def _attributes(self) -> list[FaceAttributes]:
        readers = []
        for row in ATTRIBUTES:
            if row.reads == "contour" and not present([row]):
                self._notes.append(f"{row.name} is not there: no contours")
                continue
            readers.append(FaceAttributes(self._open(resolve("attributes", AUTOMATIC, [row])[0]), row))
        return readers

    def _open(self, path: Path) -> Session:
        session = open_managed(path, *self._choice)
        self._networks.append(session)
        return session


def _report(networks: Sequence[Network], notes: Sequence[str]) -> str:
    """Which network runs where, licences that forbid paid work, and what else there is to say."""
    names = [network.path.name for network in networks]
    if len({network.provider for network in networks}) == 1:
        where = f"onnx on {networks[0].provider}: {', '.join(names)}"
    else:
        where = "onnx: " + ", ".join(f"{network.path.name} on {network.provider}" for network in networks)
    rows = [*DETECTORS, *RECOGNISERS, *SWAPPERS, *CONVERTERS, *ATTRIBUTES]
    unpaid = [name for name in names if any(row.commercial == "no" and name in row.names for row in rows)]
    licence = [f"not licensed for commercial use: {', '.join(unpaid)}"] if unpaid else []
    said = dict.fromkeys(network.note for network in networks if network.note)
    return "; ".join([where, *notes, *said, *licence])
