"""Collect the tasks of `invoke`: `invoke --list` shows them, `invoke --help TASK` explains one."""

from invoke.collection import Collection

from scripts.tasks import (
    cache_tasks,
    deploy_tasks,
    image_tasks,
    models_tasks,
    project_tasks,
    smoke_tasks,
)

namespace = Collection()
namespace.add_task(image_tasks.build)
namespace.add_task(project_tasks.config)
namespace.add_task(project_tasks.pin)
namespace.add_task(project_tasks.import_)
namespace.add_task(image_tasks.inspect)
namespace.add_task(image_tasks.push)
namespace.add_task(image_tasks.serve)
namespace.add_task(project_tasks.lint)
namespace.add_task(project_tasks.doctor)
namespace.add_task(project_tasks.clean)
namespace.add_task(project_tasks.matrix)
namespace.add_collection(Collection.from_module(models_tasks, "models", auto_dash_names=True))
namespace.add_collection(Collection.from_module(cache_tasks, "cache", auto_dash_names=True))
namespace.add_collection(Collection.from_module(smoke_tasks, "smoke", auto_dash_names=True))
deploy = Collection("deploy", auto_dash_names=True)
deploy.add_task(deploy_tasks.up, default=True)
deploy.add_task(deploy_tasks.status)
namespace.add_collection(deploy)
