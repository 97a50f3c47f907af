"""Mean reciprocal rank of the first wanted answer."""

from statistics import fmean

import datasets
import evaluate

from blocklm.evaluation.text_metrics import reciprocal_rank


class MeanReciprocalRank(evaluate.Metric):
    """Gives the mean and each item's score; `predictions` are rankings, best first, `references` are wanted answers."""

    def _info(self) -> evaluate.MetricInfo:
        texts = {key: datasets.Sequence(datasets.Value("string")) for key in ("predictions", "references")}
        return evaluate.MetricInfo(
            description=str(self.__doc__), citation="", inputs_description="", features=datasets.Features(texts)
        )

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, object]:
        scores = list(map(reciprocal_rank, predictions, references))
        return {"mrr": fmean(scores), "scores": scores}
