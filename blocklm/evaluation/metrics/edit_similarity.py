"""Edit similarity by Levenshtein, and its gain over copying the old text."""

from statistics import fmean

import datasets
import evaluate

from blocklm.evaluation.text_metrics import edit_similarity, gain


class EditSimilarity(evaluate.Metric):
    """Gives the mean, the mean of the old texts in `copies` (empty if there are none), the gain, and all `scores`."""

    def _info(self) -> evaluate.MetricInfo:
        texts = {key: datasets.Value("string") for key in ("predictions", "references", "copies")}
        return evaluate.MetricInfo(
            description=str(self.__doc__), citation="", inputs_description="", features=datasets.Features(texts)
        )

    def _compute(self, predictions: list[str], references: list[str], copies: list[str]) -> dict[str, object]:
        scores = list(map(edit_similarity, predictions, references))
        mean, floor = fmean(scores), fmean(map(edit_similarity, copies, references))
        return {"edit_similarity": mean, "copy_floor": floor, "gain": gain(mean, floor), "scores": scores}
