"""STUDY.md, the page of a study of several seeds: tables, figures and answers to its questions."""
