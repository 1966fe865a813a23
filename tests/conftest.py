import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # do not look for a TPU
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # tests wait for compiling, not for running

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)  # enough for a 2 x 2 x 2 mesh
jax.config.update("jax_numpy_dtype_promotion", "strict")  # no float32 by accident
cache = os.environ.get("LONGJAX_TEST_CACHE", str(pathlib.Path.home() / ".cache" / "longjax-tests"))
jax.config.update("jax_compilation_cache_dir", cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)  # the rest is as fast to compile as to read
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True, scope="module")
def what_was_compiled_is_forgotten():
    """Thousands of programs would fill the process's table of memory maps, and XLA then aborts."""
    yield
    jax.clear_caches()
