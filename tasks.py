"""What `invoke` offers. `invoke --list` is the menu; `invoke --help TASK` explains one entry."""

from invoke.collection import Collection

from scripts.tasks import cache, image, inspect, models, pin, quality, serve, ship

namespace = Collection()
namespace.add_task(image.build)
namespace.add_task(image.config)
namespace.add_task(pin.pin)
namespace.add_task(inspect.inspect)
namespace.add_task(ship.push)
namespace.add_task(serve.serve)
namespace.add_task(quality.lint)
namespace.add_task(quality.doctor)
namespace.add_task(quality.clean)
namespace.add_task(quality.matrix)
namespace.add_collection(Collection.from_module(models, auto_dash_names=True))
namespace.add_collection(Collection.from_module(cache, auto_dash_names=True))
