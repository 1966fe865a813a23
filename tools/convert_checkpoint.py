r"""A checkpoint to another format, with a method's positions in its configuration; the same as `longjax-convert`.

python -m tools.convert_checkpoint --from=/models/Llama-2-7b --to=hf --out=/models/Llama-2-7b-hf --verify
python -m tools.convert_checkpoint --from=/models/Llama-2-7b-hf --to=hf --out=/models/Llama-2-7b-yarn \
    --method=yarn --method_config="factor=8"
"""

from longjax.cli.convert import main

if __name__ == "__main__":
    main()
