"""Back-tests: python -m pipelines.evaluate bundle=DIR backtest=weekly [backtest.retrain=monthly]"""

from pipelines.backtest.command import backtest

__all__ = ["backtest"]
