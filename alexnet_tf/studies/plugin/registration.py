"""Making our sweepers and presets known to Hydra."""

from importlib.resources import files

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra_plugins.alexnet_tf.sweeper import StudySweeper
from hydra_plugins.alexnet_tf.tuning import TuningSweeper

from alexnet_tf.config import CONFIG_MODULE


def register() -> None:
    """Register the sweepers, which Hydra's own discovery does not see in an editable installation, and the presets.

    The launchers' packages bring configs of the same names as the presets in `conf/hydra`. Hydra would check ours against
    theirs, with a warning that this is deprecated, and refuse null; so ours take their place.
    """
    plugins = Plugins.instance()  # imports the packages, which store their configs
    for sweeper in (StudySweeper, TuningSweeper):
        plugins.register(sweeper)
    stored = ConfigStore.instance().repo["hydra"]
    for kind in ("launcher", "sweeper"):
        for preset in files(CONFIG_MODULE).joinpath("hydra", kind).iterdir():
            stored.get(kind, {}).pop(preset.name, None)
