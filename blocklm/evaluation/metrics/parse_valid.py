"""Share of predictions with which the window around them still parses."""

from statistics import fmean

import datasets
import evaluate

from blocklm.evaluation.text_metrics import parse_valid


class ParseValid(evaluate.Metric):
    """Gives the share of the `counted` items, and each item's score or None.

    See `blocklm.evaluation.text_metrics.parse_valid`.
    """

    def _info(self) -> evaluate.MetricInfo:
        texts = {
            key: datasets.Value("string") for key in ("predictions", "references", "languages", "prefixes", "suffixes")
        }
        return evaluate.MetricInfo(
            description=str(self.__doc__), citation="", inputs_description="", features=datasets.Features(texts)
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        languages: list[str],
        prefixes: list[str],
        suffixes: list[str],
    ) -> dict[str, object]:
        scores = list(map(parse_valid, predictions, references, languages, prefixes, suffixes))
        counted = [score for score in scores if score is not None]
        return {"parse_valid": fmean(counted) if counted else None, "counted": len(counted), "scores": scores}
