"""What is made of records: tables, figures, findings, pages."""

from longjax.report.study import write as write
