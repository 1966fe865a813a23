r"""Documents to training rows: tokenize, select, pack; the same as `longjax-prepare-data`.

python -m tools.prepare_data tokenize --input=books:/data/books --tokenizer=/models/Llama-2-7b-hf --store=/data/store
python -m tools.prepare_data select --store=/data/store --selection=/data/selection --tokens=1e9
python -m tools.prepare_data pack --selection=/data/selection --plan=/data/rows_32k --length=32768
"""

from longjax.cli.prepare_data import main

if __name__ == "__main__":
    main()
