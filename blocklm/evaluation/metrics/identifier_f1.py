"""F1 of the names in prediction and reference."""

from statistics import fmean

import datasets
import evaluate

from blocklm.evaluation.text_metrics import identifier_f1


class IdentifierF1(evaluate.Metric):
    """Gives the mean of the `counted` items, and each item's score or None; `languages` are Linguist's names."""

    def _info(self) -> evaluate.MetricInfo:
        texts = {key: datasets.Value("string") for key in ("predictions", "references", "languages")}
        return evaluate.MetricInfo(
            description=str(self.__doc__), citation="", inputs_description="", features=datasets.Features(texts)
        )

    def _compute(self, predictions: list[str], references: list[str], languages: list[str]) -> dict[str, object]:
        scores = list(map(identifier_f1, predictions, references, languages))
        counted = [score for score in scores if score is not None]
        return {"identifier_f1": fmean(counted) if counted else None, "counted": len(counted), "scores": scores}
