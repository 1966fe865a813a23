import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # do not look for a TPU

import jax

jax.config.update("jax_num_cpu_devices", 8)  # enough for a 2 x 2 x 2 mesh
jax.config.update("jax_numpy_dtype_promotion", "strict")  # no float32 by accident
cache = os.environ.get("LONGJAX_TEST_CACHE", str(pathlib.Path.home() / ".cache" / "longjax-tests"))
jax.config.update("jax_compilation_cache_dir", cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)  # the rest is as fast to compile as to read
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
