"""What is made of records: tables, figures, findings, pages."""

from longjax.report.page import write_report as write_report
