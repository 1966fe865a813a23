"""Tables and figures of all evaluations below a directory; the same as `longjax-report`.

python -m tools.report --dir=runs
python -m tools.report --dir=runs/demo --out=/tmp/report
"""

from longjax.cli.report import main

if __name__ == "__main__":
    main()
