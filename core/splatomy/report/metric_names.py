"""What each metric key means, in one plain line."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricText:
    """better: "higher", "lower" or "" where neither is a virtue."""

    unit: str
    better: str
    text: str


_KNOWN: dict[str, MetricText] = {
    "dice_own": MetricText(
        "", "higher", "Overlap of our vessel label with the truth, at the run's own threshold; 1 is perfect."
    ),
    "dice_best": MetricText(
        "",
        "higher",
        "The same overlap at the threshold that suits the truth best: an upper bound that needs the truth.",
    ),
    "cldice": MetricText(
        "", "higher", "Overlap of the centrelines: whether branches are connected, whatever their thickness."
    ),
    "precision": MetricText("", "higher", "Share of our vessel voxels that are vessel in truth."),
    "recall": MetricText("", "higher", "Share of the true vessel voxels that we found."),
    "recall_thin": MetricText("", "higher", "Share of the true voxels of thin vessels that we found."),
    "psnr": MetricText(
        "dB",
        "higher",
        "Agreement of rendered images with the true or held-out ones, all pixels; +6 dB halves the error.",
    ),
    "psnr_masked": MetricText("dB", "higher", "The same over visible pixels of the wanted object alone."),
    "psnr_zero_filled": MetricText(
        "dB",
        "higher",
        "The same with hidden pixels set to zero in both images: flatters, kept for comparison with papers.",
    ),
    "psnr_hidden": MetricText("dB", "higher", "The same over pixels behind an instrument in that frame."),
    "psnr_ever_hidden": MetricText(
        "dB", "higher", "The same over the image positions that an instrument hides in any frame."
    ),
    "psnr_hidden_seen": MetricText(
        "dB", "higher", "The same over hidden pixels whose tissue some other frame shows."
    ),
    "psnr_never_seen": MetricText(
        "dB", "higher", "The same over tissue that no frame shows: it can only be made up."
    ),
    "ssim_zero_filled": MetricText(
        "", "higher", "Structure with hidden pixels set to zero in both images: flatters, as in papers."
    ),
    "ssim": MetricText("", "higher", "Agreement of local image structure; 1 is perfect."),
    "lpips": MetricText("", "lower", "Perceived image difference by a trained network; 0 is none."),
    "flicker": MetricText("", "lower", "Frame-to-frame change inside hidden areas that nothing explains."),
    "depth_residual": MetricText(
        "", "lower", "Mean difference of the map's depth and a new frame's, as a share of the depth."
    ),
    "fps": MetricText("1/s", "higher", "Frames tracked and learnt from in a second."),
    "latency_p50_s": MetricText("s", "lower", "Median time from a frame's receipt to its snapshot."),
    "latency_p95_s": MetricText("s", "lower", "The same for all but every twentieth frame."),
    "latency_p99_s": MetricText("s", "lower", "The same for all but every hundredth frame."),
    "dropped": MetricText("", "lower", "Frames that came but were not taken: the newest one wins."),
    "tracked_share": MetricText("", "higher", "Share of the taken frames whose camera was found."),
    "paused_share": MetricText("", "", "Share of the taken frames without tissue: dark, smoke, outside."),
    "relocalisations": MetricText("", "", "How often the camera was found again after it was lost."),
    "breath_period_s": MetricText(
        "s", "", "Breath that was last found: motion with this period was told to be the tissue's."
    ),
    "volume_rmse_per_mm": MetricText(
        "1/mm", "lower", "Typical error of the attenuation values over all voxels."
    ),
    "compared_voxels": MetricText("", "", "Voxels of the truth's own grid that were compared."),
    "truth_voxel_mm": MetricText("mm", "", "Longest edge of the truth's voxels, on which it was compared."),
    "overlap_truth_share": MetricText("", "", "Share of the truth's volume that lies in the run's."),
    "overlap_run_share": MetricText("", "", "Share of the run's volume that lies in the truth's."),
    "overlap_vessel_share": MetricText("", "", "Share of the true vessels that lies in the run's volume."),
    "volume_psnr": MetricText("dB", "higher", "Agreement of the attenuation values over all voxels."),
    "depth_mae_mm": MetricText("mm", "lower", "Mean absolute depth error."),
    "depth_rmse_mm": MetricText("mm", "lower", "Typical depth error; large errors weigh more."),
    "depth_absrel": MetricText("", "lower", "Mean depth error as a share of the depth."),
    "depth_abs_rel": MetricText("", "lower", "Mean depth error as a share of the depth."),
    "depth_abs_rel_scaled": MetricText(
        "", "lower", "The same after one common factor, since the scale of this clip is unknown."
    ),
    "depth_rmse_clipped_mm": MetricText("mm", "lower", "The same with errors cut at 20 mm."),
    "depth_worst_mm": MetricText("mm", "lower", "Largest depth error of any pixel."),
    "depth_missing": MetricText("", "lower", "Share of the pixels for which no depth was found."),
    "depth_hidden_mae_mm": MetricText("mm", "lower", "Mean absolute depth error behind the instruments."),
    "unsteadiness": MetricText("", "lower", "Mean change of the error from frame to frame in hidden pixels."),
    "chamfer_mean_mm": MetricText(
        "mm", "lower", "Mean of the two mean surface distances, ours to truth and truth to ours."
    ),
    "chamfer_sum_mm": MetricText(
        "mm", "lower", "Sum of the same two distances: twice the mean, as some papers give it."
    ),
    "hd95_mm": MetricText("mm", "lower", "Surface distance that 95 % of the surface stays below."),
    "accuracy_mm": MetricText("mm", "lower", "Mean distance from our surface to the true one."),
    "completeness_mm": MetricText(
        "mm", "lower", "Mean distance from the true surface to ours: grows when parts are missing."
    ),
    "completeness_seen_mm": MetricText(
        "mm", "lower", "The same from the part of the true surface that some view shows."
    ),
    "completeness_hidden_mm": MetricText(
        "mm", "lower", "The same from the part that no view shows: it can only be guessed."
    ),
    "chamfer_icp_sum_mm": MetricText(
        "mm", "lower", "The sum after a rigid alignment, which hides a shift; to compare with papers."
    ),
    "fscore": MetricText("", "higher", "Harmonic mean of precision and recall of the surface."),
    "evidence_share": MetricText(
        "", "higher", "Share of our surface's area that views really show; the rest is closed by a guess."
    ),
    "arrival_error_s": MetricText("s", "lower", "Median error of the time when contrast arrives."),
    "peak_error_s": MetricText("s", "lower", "Median error of the time of the strongest contrast."),
}

METRIC_ORDER: tuple[str, ...] = tuple(_KNOWN)

_UNIT_BY_SUFFIX = (("_per_mm", "1/mm"), ("_mm", "mm"), ("_s", "s"), ("_db", "dB"), ("psnr", "dB"))


_SCORES = {
    "fscore": "Harmonic mean of precision and recall of the surface",
    "precision": "Share of our surface near the true one",
    "recall": "Share of the true surface near ours",
}
_PROTOCOLS = {
    "dtu": "the protocol of DTU: thinned to 0.2 mm, distances of 20 mm and more left out",
    "tnt": "the protocol of Tanks and Temples, within its distance tau",
    "tnt_icp": "the protocol of Tanks and Temples, after a rigid alignment",
    "o2recon": "the protocol of O2-Recon, with points by area",
    "o2recon_vertices": "the protocol of O2-Recon, with bare vertices as its release takes them",
}


def describe_metric(key: str) -> MetricText:
    """The text of a metric key; an unknown one gets its unit from its suffix and no explanation."""
    if key in _KNOWN:
        return _KNOWN[key]
    view = re.fullmatch(r"(dice|precision|recall)_view(\d+)(_given)?", key)
    if view:
        source = "the masks given with the input" if view[3] else "the vessels found in its picture"
        whats = {"dice": "Overlap", "precision": "Share of our shadow inside", "recall": "Share covered"}
        what = whats[view[1]]
        return MetricText("", "higher", f"{what}, reprojected into view {view[2]}, against {source}.")
    score = re.fullmatch(r"(fscore|precision|recall)_(\d+(?:\.\d+)?)mm", key)
    if score:
        what = _SCORES[score[1]]
        return MetricText("", "higher", f"{what}, within {score[2]} mm.")
    relative = re.fullmatch(r"(fscore|precision|recall)_(\d+(?:\.\d+)?)pct", key)
    if relative:
        what = _SCORES[relative[1]]
        return MetricText("", "higher", f"{what}, within {relative[2]} % of the truth's size.")
    if key.endswith("_units") and f"{key.removesuffix('_units')}_mm" in _KNOWN:
        known = _KNOWN[f"{key.removesuffix('_units')}_mm"]
        return MetricText("units", known.better, known.text)
    protocol = re.fullmatch(r"(.+?)_(dtu|tnt_icp|tnt|o2recon_vertices|o2recon)(_mm)?", key)
    if protocol:
        about = describe_metric(f"{protocol[1]}{protocol[3] or ''}")
        return MetricText(about.unit, about.better, f"{about.text} By {_PROTOCOLS[protocol[2]]}.".strip())
    for suffix, unit in _UNIT_BY_SUFFIX:
        if key.endswith(suffix):
            return MetricText(unit, "", "")
    return MetricText("", "", "")
