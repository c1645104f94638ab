"""Every kind of error with its exit code and HTTP status, as one table.

Kinds are append-only: machines match them. ``docs/errors.md`` says when each is raised; a test compares the table with the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Outcome:
    """The process's exit code and the HTTP status of a kind of error."""

    exit_code: int
    status: int


_GROUPS: Final = {
    # Bytes of a checkpoint that are not what they say.
    Outcome(1, 422): (
        "bad-index bad-name bad-shape checksum-mismatch empty-file html-instead-of-file hub-bad-answer lfs-pointer "
        "malformed-dcp malformed-pickle malformed-safetensors malformed-torch malformed-zip missing-shard "
        "name-conflict no-tensors tensor-in-two-shards tensor-missing truncated-file wrong-bytes"
    ),
    # Bytes of a store, or the program itself, at fault.
    Outcome(1, 500): ("bad-answer cannot-write experiment-damaged family-damaged internal job-damaged store-damaged"),
    # No such method.
    Outcome(2, 405): ("method-not-allowed"),
    # No such format.
    Outcome(2, 406): ("not-acceptable"),
    # In conflict with what was asked.
    Outcome(2, 409): ("idempotency-conflict"),
    # Too much in one request.
    Outcome(2, 413): ("body-too-large"),
    # Too long an address.
    Outcome(2, 414): ("address-too-long"),
    # No such range.
    Outcome(2, 416): ("range-not-satisfiable"),
    # The request is wrong.
    Outcome(2, 422): (
        "bad-by bad-cursor bad-database bad-dtype bad-endpoint bad-experiment bad-family bad-format bad-hub-address bad-option "
        "bad-condition bad-field bad-hyperparameter bad-notes bad-path bad-pattern bad-precision bad-rename bad-request "
        "bad-root bad-rules bad-run bad-scope bad-server bad-share bad-size bad-source bad-steps bad-suffix bad-tag bad-token "
        "cancelled cannot-listen compare-option device-unavailable different-steps family-and-runs family-name family-option "
        "format-conflict heads-conflict hub-option needs-figure no-curve no-members no-server no-token open-server preview-copy "
        "preview-over-run rename-conflict run-name run-needed runs-needed too-many-maps weak-token bad-weights bad-probe extra-missing"
    ),
    # Who asks is not known.
    Outcome(4, 401): ("unauthorised"),
    # Who asks may not.
    Outcome(4, 403): ("bad-origin forbidden"),
    # There is no such thing.
    Outcome(4, 404): (
        "cross-not-found data-not-registered experiment-not-found experiment-not-run family-not-found figure-not-found file-missing "
        "file-not-found "
        "gradients-not-found group-not-found "
        "hub-no-file hub-no-folder hub-no-repository hub-no-revision job-not-found measure-not-found member-not-found "
        "no-attention no-checkpoints no-current-folder no-layers no-matrices no-revisions no-such-address nothing-logged "
        "probe-not-registered not-in-trash quantity-not-found "
        "root-missing root-not-found rows-not-found rules-not-found run-not-found store-not-found source-not-found state-not-found "
        "spectra-not-found matrix-not-found step-not-found token-not-found data-not-found probe-not-found tokenizer-not-found"
    ),
    # In conflict with what is there.
    Outcome(4, 409): ("gradients-exist spectra-exist output-exists run-estimate run-exists"),
    # It is not what was meant any more.
    Outcome(4, 412): ("run-changed"),
    # Another server's name.
    Outcome(4, 421): ("bad-host"),
    # Recognised, and not done.
    Outcome(4, 422): (
        "several-runs ambiguous-checkpoint ambiguous-state ambiguous-state-dict big-endian checkpoints-gone data-changed disk-space "
        "gradients-not-finite heads-unknown hub-disabled hub-encoded hub-forbidden hub-gated hub-insecure hub-limit "
        "hub-offline hub-refused hub-unauthorized job-bytes job-checkpoints job-seconds journal-mismatch "
        "layout-mismatch legacy-torch limit-exceeded link-loop link-outside memory-budget memory-quota network-database "
        "newer-database no-data-roots no-parameters no-source not-a-file not-per-example permission-denied "
        "pickled-module range-ignored step-conflict store-not-folder store-unwritable store-version theta-lost "
        "theta-types too-many-files torchscript unsafe-member unsafe-path unsafe-pickle scale-unavailable unsafe-shard-path "
        "unsupported-deepspeed unsupported-fsdp unsupported-megatron unsupported-neox unsupported-orbax unsupported-sharding "
        "unsupported-source unsupported-tensor unsupported-tensorflow several-checkpoints unsupported-archive "
        "unsupported-coreml unsupported-gguf unsupported-hdf5 unsupported-keras unsupported-metaseq unsupported-msgpack "
        "unsupported-npy unsupported-npz unsupported-onnx unsupported-pickle unsupported-ranks unsupported-sb3 "
        "answer-too-large unsupported-tensor-parallel unsupported-tflite unsupported-verl unsupported-zip bad-data checkpoint-changed "
        "network-mismatch network-unknown runs-differ source-gone too-few-examples vectors-limit"
    ),
    # It did not come in time.
    Outcome(75, 408): ("body-slow"),
    # Too much at once.
    Outcome(75, 429): ("quota-queued quota-rate too-many-streams"),
    # May pass.
    Outcome(75, 503): (
        "answer-died answer-slow busy database-unreachable disk-full file-changed hub-file-changed hub-rate-limited hub-slow "
        "hub-unavailable hub-unreachable no-scheduler planning-died planning-slow read-failed server-unreachable slab-lost store-busy "
        "store-changed store-not-shared theta-incomplete too-busy workers-die workers-stop write-failed"
    ),
}
KINDS: Final[dict[str, Outcome]] = {kind: outcome for outcome, kinds in _GROUPS.items() for kind in kinds.split()}
