"""Generate the tables of features and extensions, from those of weights and variables."""

from scripts.common.models.weights import FEATURES, auxiliary_weights, weights_of
from scripts.common.units import size
from scripts.container.webui.extensions.extension_set import HABITS
from scripts.reference.reference_tables import code, table


def feature_list() -> str:
    """List every feature with the number and size of its files, as far as it is known."""
    rows = []
    for feature, purpose in FEATURES.items():
        weights = weights_of(feature)
        total = sum(each.size or 0 for each in weights)
        more = "" if all(each.size for each in weights) else "more than "
        rows.append(
            (code(feature), purpose, str(len(weights)), f"{more}{size(total)}" if total else "")
        )
    return table(("feature", "purpose", "files", "size"), rows)


def weight_list() -> str:
    """List every file of the features: place, what needs it, size, licence."""
    rows = [
        (
            ", ".join(map(code, row.features)),
            code(f"{row.hub}/{row.file}" if row.is_hub_cache else row.data_path or row.path),
            f"{row.use} {', '.join(row.names)}",
            size(row.size) if row.size else "",
            row.licence or "not stated",
            "known" if row.sha256 else "by `invoke pin`",
            ", ".join(row.releases) or "all",
        )
        for row in auxiliary_weights()
    ]
    header = ("feature", "file", "needed by", "size", "licence", "checksum", "releases")
    return table(header, rows)


def extension_habits() -> str:
    """List the variables that are set for habits of extensions."""
    rows = [
        (code(name), code(value.format(data_dir="<DATA_DIR>")), reason)
        for name, (value, reason) in HABITS.items()
    ]
    return table(("variable", "value", "reason"), rows)
