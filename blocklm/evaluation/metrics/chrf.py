"""chrF2 of each text by sacreBLEU, and their mean."""

from statistics import fmean

import datasets
import evaluate

from blocklm.evaluation.text_metrics import chrf


class Chrf(evaluate.Metric):
    """Averages the chrF of single texts, 0 to 100, and gives each under `scores`; it is not the chrF of a corpus."""

    def _info(self) -> evaluate.MetricInfo:
        texts = {key: datasets.Value("string") for key in ("predictions", "references")}
        return evaluate.MetricInfo(
            description=str(self.__doc__), citation="", inputs_description="", features=datasets.Features(texts)
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, object]:
        scores = list(map(chrf, predictions, references))
        return {"chrf": fmean(scores), "scores": scores}
