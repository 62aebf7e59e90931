"""The data sets of the literature: their shapes, their constants, and how to recognise one.

A known data set gets its published normalisation and its recipe. How images are found and decoded
does not belong here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CIFAR10 = _words("airplane automobile bird cat deer dog frog horse ship truck")

CIFAR100 = _words(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """
)

FASHION_MNIST = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

# The authors' list; the position in it is their label. Class folders are labelled by sorted name,
# so the two agree as sets, not in order.
IMAGENET_SUBSET = _words(
    """
    n02486261 n01692333 n03379051 n04026417 n02786058 n03544143 n03950228 n01531178 n02101006
    n02398521 n03887697 n03937543 n02066245 n02138441 n02123394 n04009552 n02747177 n03676483
    n04228054 n03998194 n04525305 n03980874 n02091244 n02804610 n11939491 n02105251 n02172182
    n01644373 n03935335 n02980441 n04111531 n02124075 n06785654 n02979186 n04606251 n09421951
    n01955084 n03633091 n03763968 n03891332 n01843065 n02112350 n03706229 n03492542 n03445777
    n07753592 n01872401 n01744401 n02098413 n03781244 n03843555 n02093991 n03814639 n03976657
    n01824575 n07717556 n03903868 n03982430 n04355933 n03967562 n02730930 n02408429 n02977058
    n04273569 n01632777 n01729322 n02992529 n01677366 n02086910 n04550184 n02058221 n02102973
    n03840681 n04127249 n03535780 n04243546 n02640242 n01728572 n03657121 n03794056 n02443484
    n03063599 n02676566 n04120489 n02788148 n02843684 n02089078 n02123597 n01795545 n02105412
    n02841315 n02423022 n02219486 n03956157 n02112018 n02279972 n01518878 n03814906 n03188531
    n01641577
    """
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownDataset:
    """What the literature fixes about one data set."""

    name: str
    """The word that recipes and reports use."""
    num_classes: int
    image_shape: tuple[int, int, int]
    """C, H, W."""
    class_names: tuple[str, ...] | None = None
    """None where the names are not distinctive enough to recognise the data set by them."""
    aliases: tuple[str, ...] = ()
    """Further names a folder of it may have, lowercase letters and digits only."""
    mean: tuple[float, ...] | None = None
    """Per channel, of pixels in [0, 1]; None: computed from the training images."""
    std: tuple[float, ...] | None = None
    """As `mean`."""
    flips: bool = True
    """False where a mirror image may belong to another class."""


_TABLE = (
    KnownDataset(name="digits", num_classes=10, image_shape=(1, 8, 8), flips=False),
    KnownDataset(
        name="cifar10",
        num_classes=10,
        image_shape=(3, 32, 32),
        class_names=CIFAR10,
        mean=(0.4914, 0.4822, 0.4465),
        # The constant of this field's code; the data's true value is .2470 .2435 .2616.
        std=(0.2023, 0.1994, 0.2010),
    ),
    KnownDataset(
        name="cifar100",
        num_classes=100,
        image_shape=(3, 32, 32),
        class_names=CIFAR100,
        mean=(0.5071, 0.4866, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
    KnownDataset(
        name="tinyimagenet",
        num_classes=200,
        image_shape=(3, 64, 64),
        aliases=("tinyimagenet200",),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    KnownDataset(
        name="imagenet_subset",
        num_classes=100,
        image_shape=(3, 224, 224),
        class_names=IMAGENET_SUBSET,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    KnownDataset(
        name="mnist",
        num_classes=10,
        image_shape=(1, 28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        flips=False,
    ),
    KnownDataset(
        name="fashionmnist",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=FASHION_MNIST,
        mean=(0.2861,),
        std=(0.3530,),
    ),
    KnownDataset(
        name="svhn",
        num_classes=10,
        image_shape=(3, 32, 32),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        flips=False,
    ),
)

KNOWN: Mapping[str, KnownDataset] = MappingProxyType({known.name: known for known in _TABLE})


def recognise(
    name: str, class_names: tuple[str, ...], image_shape: tuple[int, int, int]
) -> str | None:
    """Say which known data set some images are, by the source's name or by the class names.

    Both ways ask for the right number of classes and the right image shape. The embedded digits
    are never recognised: their source knows itself.

    Args:
        name: Of the folder or file; case and punctuation do not matter ("CIFAR-10").
        class_names: In any order.
        image_shape: C, H, W.

    Returns:
        A key of `KNOWN`, or None.
    """
    for known in _TABLE:
        fits = known.num_classes == len(class_names) and known.image_shape == image_shape
        if known.name != "digits" and fits and _is_called(known, name, class_names):
            return known.name
    return None


def _is_called(known: KnownDataset, name: str, class_names: tuple[str, ...]) -> bool:
    if _plain(name) in (_plain(known.name), *known.aliases):
        return True
    return known.class_names is not None and (
        {_plain(word) for word in class_names} == {_plain(word) for word in known.class_names}
    )


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
