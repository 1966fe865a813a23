import gc
import os
import pathlib

from longjax.data import passkey_text

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # do not look for a TPU
os.environ.setdefault(  # tests wait for compiling, not for running: the older emitters take a quarter of the time
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
    " --xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch: the other cores are for the other workers

import jax
import pytest

gc.set_threshold(100_000, 20, 50)  # tracing makes objects by the million, and hardly any cycles
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


@pytest.fixture(scope="session")
def documents():
    from test_data import document

    return [document(f"d{i}", 300) for i in range(60)]


@pytest.fixture(scope="session")
def tokens(documents, tmp_path_factory):
    """-> a tokenizer of fake_model.VOCAB pieces."""
    from longjax.data import tokenizer

    return tokenizer.train_tokenizer(
        documents, tmp_path_factory.mktemp("tokenizer") / "sp.model", 420, passkey_text.SENTENCES
    )


@pytest.fixture(scope="session")
def store(documents, tokens, tmp_path_factory):
    from longjax import data

    return data.write_store(tmp_path_factory.mktemp("store"), documents, tokens)
