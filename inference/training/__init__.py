"""Training loop: steps, schedules, logs, checkpoints, several processes, reproducible randomness.

Knows nothing of what is trained: an objective is a module that returns a scalar loss and a named tuple of
things to look at. `trainer` is the loop; each other file is one thing that it uses, or that a program sets
up for it. Imports no other room of `inference`. A new schedule, log or optimiser is added here.
"""

from .averages import RunningMeans
from .captured_step import CapturedStep, CaptureError
from .checkpoint import Checkpoint, CheckpointError, module_states
from .checkpoint_file import load_checkpoint, save_checkpoint
from .clipping import RunningClip
from .config import (
    Difference,
    differences,
    field_docs,
    from_primitives,
    make_parser,
    parse_config,
    positional_field,
    runtime_field,
    source_field,
    to_primitives,
)
from .data_record import DataRecord, whole_source
from .distributed import DeviceError, Process, check_device, join_processes, select_device, unwrap
from .folder_lock import FolderLock, FolderLockedError
from .interrupts import SignalWatch
from .memory import keep_freed_memory
from .nonfinite import (
    NonFiniteError,
    StepGuard,
    clip_gradients,
    gradient_norm,
    gradients,
    nonfinite_gradients,
    nonfinite_state,
)
from .optimizers import RMSPropTF, make_optimizer, parameter_groups, rms_clip_norm
from .randomness import hash_seed, preserve_random_state, seed_generators
from .run_folder import RunFolder
from .run_log import JSONLog, LogError, LogSink, TensorBoardLog, read_log
from .schedules import (
    Annealed,
    Constant,
    Cosine,
    Curriculum,
    ExponentialDecay,
    Linear,
    PiecewiseConstant,
    TriggeredCurriculum,
    Warmup,
)
from .stages import Stage, run_stages
from .trainer import Trainer
from .training_config import TrainingConfig
from .training_result import TrainingResult

__all__ = [
    "Annealed",
    "CaptureError",
    "CapturedStep",
    "Checkpoint",
    "CheckpointError",
    "Constant",
    "Cosine",
    "Curriculum",
    "DataRecord",
    "DeviceError",
    "Difference",
    "ExponentialDecay",
    "FolderLock",
    "FolderLockedError",
    "JSONLog",
    "Linear",
    "LogError",
    "LogSink",
    "NonFiniteError",
    "PiecewiseConstant",
    "Process",
    "RMSPropTF",
    "RunFolder",
    "RunningClip",
    "RunningMeans",
    "SignalWatch",
    "Stage",
    "StepGuard",
    "TensorBoardLog",
    "Trainer",
    "TrainingConfig",
    "TrainingResult",
    "TriggeredCurriculum",
    "Warmup",
    "check_device",
    "clip_gradients",
    "differences",
    "field_docs",
    "from_primitives",
    "gradient_norm",
    "gradients",
    "hash_seed",
    "join_processes",
    "keep_freed_memory",
    "load_checkpoint",
    "make_optimizer",
    "make_parser",
    "module_states",
    "nonfinite_gradients",
    "nonfinite_state",
    "parameter_groups",
    "parse_config",
    "positional_field",
    "preserve_random_state",
    "read_log",
    "rms_clip_norm",
    "run_stages",
    "runtime_field",
    "save_checkpoint",
    "seed_generators",
    "select_device",
    "source_field",
    "to_primitives",
    "unwrap",
    "whole_source",
]
