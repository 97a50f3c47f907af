"""Share of predictions that equal their reference."""

from statistics import fmean

import datasets
import evaluate

from blocklm.evaluation.text_metrics import exact_match


class ExactMatch(evaluate.Metric):
    """Gives the share, and each prediction's score; see `blocklm.evaluation.text_metrics.exact_match`."""

    def _info(self) -> evaluate.MetricInfo:
        texts = {key: datasets.Value("string") for key in ("predictions", "references")}
        return evaluate.MetricInfo(
            description=str(self.__doc__), citation="", inputs_description="", features=datasets.Features(texts)
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, object]:
        scores = list(map(exact_match, predictions, references))
        return {"exact_match": fmean(scores), "scores": scores}
