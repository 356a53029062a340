"""Numbers about a trained model on held-out data: bounds, counting, boxes, tracks, probes, and files of them.

One file for each kind of model (`images`, `videos`, `likelihood`, `trackers`, `actions`), and the metrics
they share. May import `objectives`, `supervised` and `training`. A metric is added to `metrics` or
`tracking_metrics`, a report of another kind of model in a file of its own.
"""

from ...models.components.boxes import object_boxes
from .actions import ActionReport, LabelledClips, evaluate_actions
from .assessment import Assessment, Assessor, Known, no_better_than_empty, watched_metrics
from .coco_file import COCOImage, COCOWriter, coco_writer
from .components_report import ComponentsReport, chosen_components, evaluate_components
from .connected_components import ConnectedComponents, FoundComponents
from .continuation import ContinuationReport, evaluate_continuation, reflected_line
from .empty_scene import empty_scene_bound
from .encounters import Encounters
from .frame_look import FrameLook, frame_look
from .images import (
    BestScene,
    Images,
    SceneReport,
    count_accuracy,
    evaluate_scenes,
    infer_best_scene,
    infer_scene,
)
from .likelihood import (
    LikelihoodReport,
    evaluate_likelihood,
    likelihood_report,
    log_marginal_of_videos,
    single_frames,
    weighted_parts,
)
from .log_marginal import log_marginal
from .long_videos import InferredPart, infer_parts
from .metrics import (
    CountReport,
    Detections,
    Matches,
    TrueBoxes,
    average_precision,
    count_report,
    match_boxes,
)
from .mot_file import MOTWriter, mot_writer
from .object_scores import explained_shares, scored_tracks
from .object_statistics import (
    ObjectStatistics,
    Perspective,
    Spread,
    object_statistics,
    objects_found,
    perspective_of,
)
from .overlaps import SUCCESS_THRESHOLDS, Overlaps, success_curve
from .prediction import PredictionReport, evaluate_prediction, predict
from .probe import (
    LabelledLatents,
    ProbeConfig,
    TrainedProbe,
    appearance_features,
    digit_sums,
    encode_frames,
    probe_accuracy,
    train_probe,
)
from .report_file import json_ready, write_json
from .segment_metrics import segment_tracking_counts
from .silhouette_neighbours import nearest_neighbours, silhouette_features
from .track_linking import TrackLinker
from .tracked_objects import ObjectsWriter, TrackedObjects, tracked_objects
from .tracker_baselines import constant_velocity_boxes, previous_boxes, static_boxes
from .trackers import Clips, HasBoxes, Tracker, TrackerReport, evaluate_tracker, spread_frames
from .tracking_metrics import (
    Discoveries,
    TrackingCounts,
    TrackingReport,
    Tracks,
    discoveries,
    tracking_counts,
    tracks_by_slot,
)
from .tracks_file import TracksFileError, TracksWriter, read_tracks, tracks_writer, write_tracks
from .videos import (
    CountMonitor,
    VideoCountReport,
    VideoReport,
    Videos,
    count_accuracy_of_videos,
    evaluate_videos,
    found_segments,
    found_tracks,
    infer_video,
    true_tracks,
)

__all__ = [
    "Assessment",
    "Assessor",
    "BestScene",
    "COCOImage",
    "COCOWriter",
    "ObjectStatistics",
    "Spread",
    "object_statistics",
    "objects_found",
    "perspective_of",
    "Clips",
    "ComponentsReport",
    "ConnectedComponents",
    "ContinuationReport",
    "CountMonitor",
    "CountReport",
    "Detections",
    "Discoveries",
    "FoundComponents",
    "FrameLook",
    "HasBoxes",
    "Images",
    "InferredPart",
    "Known",
    "LabelledLatents",
    "LikelihoodReport",
    "MOTWriter",
    "Matches",
    "ObjectsWriter",
    "Overlaps",
    "Perspective",
    "PredictionReport",
    "ProbeConfig",
    "SUCCESS_THRESHOLDS",
    "SceneReport",
    "Encounters",
    "TrackLinker",
    "TrackedObjects",
    "Tracker",
    "TrackerReport",
    "TrackingCounts",
    "TrackingReport",
    "Tracks",
    "TracksFileError",
    "TracksWriter",
    "TrainedProbe",
    "TrueBoxes",
    "VideoCountReport",
    "VideoReport",
    "Videos",
    "appearance_features",
    "average_precision",
    "chosen_components",
    "coco_writer",
    "constant_velocity_boxes",
    "count_accuracy",
    "count_accuracy_of_videos",
    "count_report",
    "digit_sums",
    "discoveries",
    "empty_scene_bound",
    "encode_frames",
    "explained_shares",
    "evaluate_components",
    "evaluate_continuation",
    "evaluate_likelihood",
    "evaluate_prediction",
    "evaluate_scenes",
    "evaluate_tracker",
    "evaluate_videos",
    "found_segments",
    "found_tracks",
    "frame_look",
    "infer_best_scene",
    "infer_parts",
    "infer_scene",
    "infer_video",
    "json_ready",
    "likelihood_report",
    "log_marginal",
    "log_marginal_of_videos",
    "match_boxes",
    "mot_writer",
    "no_better_than_empty",
    "object_boxes",
    "predict",
    "previous_boxes",
    "probe_accuracy",
    "read_tracks",
    "reflected_line",
    "scored_tracks",
    "segment_tracking_counts",
    "single_frames",
    "spread_frames",
    "static_boxes",
    "success_curve",
    "tracked_objects",
    "tracking_counts",
    "tracks_by_slot",
    "true_tracks",
    "train_probe",
    "watched_metrics",
    "weighted_parts",
    "write_json",
    "tracks_writer",
    "write_tracks",
    "ActionReport",
    "LabelledClips",
    "evaluate_actions",
    "nearest_neighbours",
    "silhouette_features",
]
