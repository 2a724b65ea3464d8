"""The evaluation of models: errors, calibration, refusals, robustness, pages; its tables, plots and report."""
