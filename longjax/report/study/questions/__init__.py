"""One file for each question that a study answers: tables, figures and a one-line finding."""
