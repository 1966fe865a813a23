"""The controlled study: every method on one base, with one recipe and one set of tests; then the report.

  python -m experiments.study --preset=mini --run_dir=runs/demo                  under ten minutes on two cores
  python -m experiments.study --preset=h200_100m --text_dir=... --run_dir=...    half an hour on two H200
  python -m experiments.study --preset=paper --base_dir=... --text_dir=...

The same as `longjax-study`.
"""

from longjax.cli.study import main

if __name__ == "__main__":
    main()
