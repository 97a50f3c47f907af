"""Edit similarity by Levenshtein, and how much of it is more than copying."""

from statistics import fmean

import datasets
import evaluate

from blocklm.evaluation.text_metrics import edit_similarity, gain


class EditSimilarity(evaluate.Metric):
    """The mean; that of `copies`, which are the texts before (empty: none); the gain over them; and each under `scores`."""

    def _info(self) -> evaluate.MetricInfo:
        texts = {key: datasets.Value("string") for key in ("predictions", "references", "copies")}
        return evaluate.MetricInfo(
            description=str(self.__doc__), citation="", inputs_description="", features=datasets.Features(texts)
        )

    def _compute(self, predictions: list[str], references: list[str], copies: list[str]) -> dict[str, object]:
        scores = list(map(edit_similarity, predictions, references))
        mean, floor = fmean(scores), fmean(map(edit_similarity, copies, references))
        return {"edit_similarity": mean, "copy_floor": floor, "gain": gain(mean, floor), "scores": scores}
