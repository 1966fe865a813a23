r"""Any checkpoint with any method on every benchmark; the same as `longjax-evaluate`.

python -m experiments.evaluate --checkpoint=/models/Llama-2-7b-hf --method=ntk_32k --tasks=all \
    --lengths=4096,8192,16384,32768 --data_dir=/data/eval --out_dir=runs/eval
python -m experiments.evaluate --checkpoint=longjax/bases/mini --method=self_extend \
    --method_config="window=32 group=16" --tasks=ruler,needle --lengths=1024 --dry_run
"""

from longjax.cli.evaluate import main

if __name__ == "__main__":
    main()
