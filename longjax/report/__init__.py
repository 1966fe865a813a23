"""Tables, figures, findings and pages made from evaluation records. Imports evals, methods, training and below."""

from longjax.report.page import write_report as write_report
