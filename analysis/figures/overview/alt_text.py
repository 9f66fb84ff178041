"""Alternative text of the overview of a teacher and a student."""

from collections.abc import Mapping

import pandas as pd


def alt_texts(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    frame, boxes, cells = (tables[f"overview{part}"] for part in ("", "-boxes", "-cells"))
    lines = frame[frame["chosen"]]
    if lines.empty:
        return {"overview": "No image could be selected."}
    runs = [
        f"{line['run']}: correct detections {line['right']}, wrong detections {line['wrong']}, "
        f"missed objects {line['missed']}"
        for line in lines.to_dict("records")
    ]
    detected = boxes["detected"].value_counts()
    return {
        "overview": (
            "One test image in three rows: the teacher, the student, and their difference. Columns "
            "are maps of features, maps of dense predictions, and detections. "
            f"{'; '.join(runs)}. Number of objects that both detect: {detected.get('both', 0)}; "
            f"only the teacher: {detected.get('teacher', 0)}; only the student: "
            f"{detected.get('student', 0)}; neither: {detected.get('none', 0)}. "
            f"The highest class probability is {cells['teacher_prediction'].max():.2f} for the "
            f"teacher and {cells['student_prediction'].max():.2f} for the student."
        )
    }
