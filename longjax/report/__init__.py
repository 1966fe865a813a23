"""Tables, figures, findings and pages made from evaluation records; imports evals, methods, training and what is below."""

from longjax.report.page import write_report as write_report
