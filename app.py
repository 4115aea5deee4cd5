"""Serve the page: `python app.py`. Also the entry of a Space."""

# ruff: noqa: E402, UP031, UP036
import contextlib
import os
import sys

if sys.version_info < (3, 11):
    sys.exit("turbo_kv needs Python 3.11 or newer; this is %s." % sys.version.split()[0])

# gradio and the hub client read these when they are imported. Else gradio sums up the last 10,000
# events after each of them, for a view that is off here. OpenMP's threads spin for a moment,
# then give way: the visitor's browser needs the same cores. So does the server's own thread.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
sys.setswitchinterval(0.0005)
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))

with contextlib.suppress(ImportError):
    import spaces  # noqa: F401  before torch, on a Space with a shared GPU

from turbo_kv.ui.build import launch

if __name__ == "__main__":
    launch()
