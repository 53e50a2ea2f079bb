"""One log while it is being made: the run is joined or opened, facts are gathered, and at the end all is written at once.

Every verb and every hook is a thin client of this file. A failure while writing leaves record and delivered file on disk; a
body that raises is logged as failed, and its exception goes on.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlflow_aifsm import publishing, scratch, verifying
from mlflow_aifsm.calls import call_fact
from mlflow_aifsm.capture import environment, frozen, tool_validation
from mlflow_aifsm.capture.quantizer_table import with_calibrated
from mlflow_aifsm.capture.source_code import SourceCode
from mlflow_aifsm.capture.training import Training
from mlflow_aifsm.codec import unstructure
from mlflow_aifsm.config import Config
from mlflow_aifsm.digests import FileDigest, set_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Facts, Json, captured, measured
from mlflow_aifsm.fill import fill
from mlflow_aifsm.measurement import Measurement, measure
from mlflow_aifsm.progress import progress
from mlflow_aifsm.publishing import Parcel
from mlflow_aifsm.record import Declaration, Record, Supersedes, VerificationResult
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.template import Template
from mlflow_aifsm.tracking.staging import Attachments
from mlflow_aifsm.tracking.write import Place, UsedData
from mlflow_aifsm.verification.criterion import CONVERSION, OPTIMIZATION, Criterion, Verification
from mlflow_aifsm.verification.run import Reference, verify

_logger = logging.getLogger(__name__)

PACKAGE_ROOTS = ("mlflow-aifsm", "mlflow", "torch", "onnx", "onnxscript", "onnxruntime", "nncf")


@dataclass(slots=True)
class Recording:
    """A log that is not finished. ``mlflow_aifsm.record_conversion`` and ``record_optimization`` make one.

    Attributes:
        template: The document that is being filled.
        place: The run it goes to.
        log_id: Its id.
        made_at: When the operation began, ISO 8601 with zone.
        config: The settings in force.
        source: The script or notebook that runs.
        subject: The model, as a person names it.
        registered_model_name: Name to register the delivered model under, or None.
        source_uri: The model it was made from.
        elsewhere: Where the work is done, if that is not this process.
        result: The outcome, once it is finished.
    """

    template: Template
    place: Place
    log_id: str
    made_at: str
    config: Config
    source: SourceCode
    subject: str
    registered_model_name: str | None = None
    source_uri: str = ""
    elsewhere: str = ""
    supersedes: Supersedes | None = None
    result: Result | None = None
    facts: Facts = field(default_factory=Facts)
    notes: list[str] = field(default_factory=list)
    declarations: list[Declaration] = field(default_factory=list)
    input_files: tuple[FileDigest, ...] = ()
    input_sha256: str = ""
    verification: VerificationResult | None = None
    delivered: Path | None = None
    measurement: Measurement | None = None
    _tables: dict[str, Sequence[Mapping[str, Json]]] = field(default_factory=dict)
    _data: list[UsedData] = field(default_factory=list)
    _model_ids: list[str] = field(default_factory=list)
    _seen: frozenset[str] = frozenset()

    def add(self, *facts: Fact) -> None:
        """Adds facts, later ones on top of earlier ones."""
        self.facts = self.facts.with_facts(facts)

    def note(self, *texts: str) -> None:
        """Adds sentences to the record's notes."""
        self.notes.extend(text for text in texts if text not in self.notes)

    def declare(self, key: str, value: str, by: str) -> None:
        """Fills a field by hand; ``key`` may be the key's last parts. What the file tells is not replaced.

        Raises:
            TemplateError: If the field is unknown.
        """
        self.declarations.append(Declaration(self.template.field(key).key, value, by, self.made_at))

    def call(
        self,
        fact: str,
        function: str,
        arguments: Mapping[str, Json],
        shown: Mapping[str, Json] | None = None,
        config: Json = None,
        what: str = "",
    ) -> None:
        """Records a call with resolved arguments, beside the script that made it.

        Args:
            fact: The fact that holds it.
            function: The function, with its module.
            arguments: All arguments with resolved defaults.
            shown: Those that the cell prints; all of them if None.
            config: What replays the call, or None where that is not known.
            what: What was asked for, where that is another thing than the arguments.
        """
        self.add(call_fact(self.source, fact, function, arguments, shown, config, what))

    def trained(self, training: Training) -> None:
        """Takes what the code that trained states; it beats the training run's params, and adds to what the model shows."""
        shown = self.facts.get("training.other")
        for fact in training.facts:
            both = fact.name == "training.other" and shown is not None and shown.state is fact.state
            text = f"{fact.value.text}; {shown.value.text}" if both and shown else fact.value.text
            self.add(replace(fact, value=replace(fact.value, text=text)))
        if training.data is not None:
            samples = Samples.of(training.data)
            self.add(captured("training.data_sets", samples.describe(), samples.digest, source="argument training"))
            self.data(samples.name, samples.digest, "training", samples.sample_digests)

    def input(self, files: Sequence[FileDigest], sha256: str, model_id: str = "", source: str = "") -> None:
        """Says which bytes went in, and of what; a logged model is linked as input of the run."""
        self.input_files, self.input_sha256 = tuple(files), sha256
        if model_id and model_id not in self._model_ids:
            self._model_ids.append(model_id)
        origin = source or self.source_uri or self.subject
        self.add(captured("input.digest", f"sha256 {sha256}", sha256, source=origin, short=sha256))

    def data(self, name: str, sha256: str, context: str, seen: frozenset[str] = frozenset()) -> None:
        """Lists a data set as an input of the run, with what it was used for.

        Args:
            name: Its name.
            sha256: Digest over its samples in order.
            context: ``training``, ``calibration`` or ``verification``.
            seen: Digests of its samples, where the model was fitted to them and they must not verify it.
        """
        self._seen |= seen
        used = UsedData(name or "unnamed", sha256, context)
        if sha256 and used not in self._data:
            self._data.append(used)

    def output(self, path: str | Path, against: Path | None = None, *, pruning_logged: bool = False) -> Measurement:
        """Takes the delivered file and measures it at once.

        Args:
            path: The file: ONNX, its external data beside it, pt2, or TorchScript; a PyTorch archive of another name is copied
                under the one by which MLflow finds it.
            against: The float model it was made from, to find what was lost on the way.
            pruning_logged: Whether a pruning is on record, so that zeros are expected.

        Raises:
            InputError: If it is no frozen file.
        """
        given = Path(path)
        self.delivered = given if frozen.delivery_name(given) == given.name else frozen.copied(given, scratch.folder())
        self.measurement = measure(self.delivered, against, pruning_logged=pruning_logged)
        self.add(*self.measurement.facts)
        digest = self.measurement.sha256
        self.add(measured("output.digest", f"sha256 {digest}", digest, source=self.delivered.name))
        return self.measurement

    def tables(self, tables: Mapping[str, Sequence[Mapping[str, Json]]]) -> None:
        """Adds tables that lie beside the record, by name; ranges that calibration found also stand beside the quantizers."""
        self._tables |= tables

    def table(self, name: str) -> Sequence[Mapping[str, Json]]:
        """Rows of one of the tables so far; empty if there is none of that name."""
        return self._all_tables().get(name, ())

    def verify(self, reference: Reference, verification: Verification, default: Criterion | None = None) -> None:
        """Runs the delivered file on the verification data beside ``reference``; a verification that cannot run has failed.

        Args:
            reference: The float file, or a function that runs the model the file was made from.
            verification: Data and criterion.
            default: Criterion where the caller sets none; that of the log's kind if None.

        Raises:
            InputError: If nothing was delivered yet.
        """
        if self.delivered is None:
            raise InputError("nothing to verify", remedy="call output(path) first")
        with progress("verifying") as shown:
            judged = default or (CONVERSION if self.template.log == "conversion" else OPTIMIZATION)
            result, facts = verify(self.delivered, reference, verification, judged, progress=shown, seen=self._seen)
        self.verification = replace(result, held_in=verifying.holder(verification, self.source))
        self.note(verifying.environments(verification, self.template.log, self.facts.get("environment.host"), self.elsewhere))
        self.add(*facts, *verifying.reused(self.verification, self.facts), *verifying.lost_classes(facts, self.facts))
        self.data(self.verification.data, self.verification.data_sha256, "verification")

    @property
    def finished(self) -> Result:
        """The outcome.

        Raises:
            InputError: If the log is not finished yet.
        """
        if self.result is None:
            raise InputError(f"log {self.log_id} is not finished", remedy="read the result after the with block")
        return self.result

    def record(self, failure: str = "") -> Record:
        """The record of what is known so far."""
        host, packages = environment.facts()[0], environment.packages(PACKAGE_ROOTS)
        # a conversion that ran elsewhere says so: this host is not where it happened
        if self.facts.get("environment.host") is None:
            self.add(host)
        self.note(*self.source.notes, *environment.tried_range_notes(packages))
        self.note(tool_validation.note(host.value.data, packages))
        files = self.measurement.files if self.measurement else ()
        return Record(
            template=self.template,
            log_id=self.log_id,
            run_id=self.place.run_id,
            made_at=self.made_at,
            tool=tool_validation.tool(),
            entries=fill(self.template, self.facts, self.declarations),
            subject=self.subject,
            input_sha256=self.input_sha256,
            output_sha256=set_digest(files) if files else "",
            input_files=self.input_files,
            output_files=tuple(files),
            verification=self.verification,
            notes=tuple(self.notes),
            cover=self.config.cover_of(self.template.log),
            supersedes=self.supersedes,
            failure=failure,
        )

    def finish(self) -> Result:
        """Writes the log and ends the run if it was started for it.

        Raises:
            TrackingError: If MLflow refuses; record and delivered file then lie on disk, and the message says where.
        """
        try:
            parcel = self._whole(self.record())
        except BaseException as error:
            self.abort(error)
            raise
        self.result = publishing.publish(parcel)
        if not self.config.quiet:
            _say(str(self.result))
        return self.result

    def abort(self, error: BaseException) -> None:
        """Logs that the operation failed, and why. Raises nothing: the caller's exception is the one to be seen."""
        words = " ".join(str(error).split())
        try:
            parcel = self._whole(self.record(failure=f"{type(error).__name__}: {words}".removesuffix(": ")))
        except Exception as second:  # noqa: BLE001
            _logger.warning("log %s has no record: %s: %s", self.log_id, type(second).__name__, second)
            publishing.rescue(self.place, self.log_id, self._delivered_files(), Path(self.config.spool))
            return
        try:
            publishing.publish_failure(parcel)
        except Exception as second:  # noqa: BLE001
            _logger.warning("%s", second)

    def _delivered_files(self) -> dict[str, Path]:
        if self.delivered is None:
            return {}
        named = [file.path for file in self.measurement.files] if self.measurement else [self.delivered.name]
        return {name: self.delivered.parent / name for name in named}

    def _whole(self, record: Record) -> Parcel:
        return Parcel(
            record,
            self._attachments(),
            self.place,
            metrics=self.facts.metrics,
            delivered=self.delivered if self.measurement else None,
            data=tuple(self._data),
            model_ids=tuple(self._model_ids),
            registered_model_name=self.registered_model_name or "",
            source_uri=self.source_uri,
            spool=Path(self.config.spool),
        )

    def _all_tables(self) -> dict[str, Sequence[Mapping[str, Json]]]:
        measured = self.measurement.tables if self.measurement else {}
        found = {str(row["tensor"]): row for row in self._tables.get("calibration", ())}
        beside = {"quantizers": with_calibrated(measured["quantizers"], found)} if found and "quantizers" in measured else {}
        return {**measured, **beside, **self._tables}

    def _attachments(self) -> Attachments:
        packages = environment.packages(PACKAGE_ROOTS)
        host = self.facts.get("environment.host")
        documents: dict[str, Json] = {"environment.json": host.value.data} if host and host.value.data else {}
        if self.verification:
            documents["verification.json"] = unstructure(self.verification)
        pinned = "".join(f"{name}=={number}\n" for name, number in packages.items()).encode()
        tables = {name: rows for name, rows in self._all_tables().items() if rows}
        return Attachments({"packages.txt": pinned, **self.source.files()}, documents, tables)


def _say(text: str) -> None:
    """Prints what a terminal of any encoding can show; a log that is written is not lost for a closed pipe."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with suppress(OSError, ValueError):
        print(text.encode(encoding, errors="replace").decode(encoding))  # noqa: T201
