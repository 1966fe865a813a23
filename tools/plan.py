r"""Memory and time of the real programs on machines that are not here; the same as `longjax-plan`.

python -m tools.plan --preset=paper --method=yarn --topology=v5e:16x16 --mesh_fsdp=32 --mesh_seq=8 --remat=attention
python -m tools.plan --preset=paper --length=65536 --topology=v5p:4x4x8          # finds mesh and remat
"""

from longjax.cli.plan import main

if __name__ == "__main__":
    main()
