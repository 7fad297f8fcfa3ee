"""What `invoke` offers. `invoke --list` is the menu; `invoke --help TASK` explains one entry."""

from invoke.collection import Collection

from scripts.tasks import image

namespace = Collection()
namespace.add_task(image.build)
namespace.add_task(image.config)
