import pytest

from idm_ray.errors import UserError
from idm_ray.searches.catalog import SEARCHES
from idm_ray.searches.finding import find, from_file, with_values
from idm_ray.searches.search import Choice
from tests.searches.making import config_of, labels


def options(search):
    return [dict(point.options) for point in search.points(config_of())]


@pytest.fixture
def file(tmp_path):
    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", SEARCHES)
def test_a_named_search_is_found(name):
    assert find(name) is SEARCHES[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lambda", r"unknown search 'lambda'; did you mean 'lambda_reg'\?"),
        ("xyz", "unknown search 'xyz'; known are: lambda_reg, "),
        (
            "batch_real",
            "expected values for batch_real.*give --values, such as --search batch_real",
        ),
        ("seed", "got seed: every point runs with several seeds, give --seeds"),
        ("method", "got method: use --search components"),
        ("absent.yaml", r"expected a YAML file of options at absent\.yaml: .*No such file"),
    ],
)
def test_what_is_no_search_is_refused_with_a_remedy(name, message):
    with pytest.raises(UserError, match=message):
        find(name)


def test_own_values_are_typed_and_take_the_place_of_the_grid():
    search = with_values("lambda_reg", "0.1, 0.5,1,0.50")
    assert options(search) == [{"lambda_reg": 0.1}, {"lambda_reg": 0.5}, {"lambda_reg": 1.0}]
    assert labels(search.points(config_of())) == ["0.1", "0.5", "1"]
    assert search.axis is SEARCHES["lambda_reg"].axis
    assert search.description == SEARCHES["lambda_reg"].description
    assert options(with_values("accuracy_window", "last,5")) == [
        {"accuracy_window": "last"},
        {"accuracy_window": 5},
    ]


@pytest.mark.parametrize(
    ("option", "values", "scale"),
    [
        ("batch_real", "16,32,64", "linear"),
        ("batch_real", "16,64,256", "log"),
        ("momentum_img", "0,0.5,0.9", "linear"),
        ("start", "tiles,noise", "bars"),
        ("network", "convnet-2,convnet-3", "bars"),
    ],
)
def test_any_option_of_the_method_takes_values(option, values, scale):
    search = with_values(option, values)
    assert (search.name, search.axis.label, search.axis.scale) == (option, option, scale)
    assert len(search.points(config_of())) == values.count(",") + 1


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        ("lambda_reg", "0.1,x", "lambda_reg must be a number, got 'x'"),
        ("lambda_reg", "0.1,,1", "lambda_reg must be a number, got ''"),
        ("queue_size", "4,6.5", "queue_size must be a whole number, got '6.5'"),
        ("start", "tile", "start must be 'tiles' or 'whole' or 'noise', got 'tile'"),
        ("lambda_re", "1", "unknown option 'lambda_re'; did you mean 'lambda_reg'"),
        ("repeats", "1,2", "unknown option 'repeats'"),
        ("components", "1", "expected an option for --values, got search components"),
        ("seed", "1,2", "give --seeds"),
    ],
)
def test_values_of_another_kind_are_refused_at_once(option, values, message):
    with pytest.raises(UserError, match=message):
        with_values(option, values)


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        ("lambda_reg", "0.1,-1", "lambda_reg must be at least 0, got -1.0"),
        ("lr_img", "nan", "lr_img must be a number, got nan"),
        ("queue_size", "1,4", "queue_init must be at most queue_size, 1, got 3"),
        ("queue_size", "0,4", "lambda_reg 0.5 needs a model queue"),
    ],
)
def test_values_out_of_range_get_the_config_s_own_error(option, values, message):
    search = with_values(option, values)
    with pytest.raises(UserError, match=message):
        search.points(config_of())


def test_a_file_is_the_grid_of_all_combinations(file):
    path = file("lambda_reg: [0.1, 1]\nlr-img: [1e-2, 0.2, 0.2]\nstart: [tiles]\n")
    search = find(str(path))
    assert search.name == "mine"
    assert search.varies == ("lambda_reg", "lr_img", "start")
    assert options(search) == [
        {"lambda_reg": weight, "lr_img": rate, "start": "tiles"}
        for weight in (0.1, 1)
        for rate in (0.01, 0.2)
    ]
    assert labels(search.points(config_of()))[0] == "lambda_reg 0.1, lr_img 0.01, start tiles"
    assert search.distributions(config_of()) == {
        "lambda_reg": Choice(values=(0.1, 1)),
        "lr_img": Choice(values=(0.01, 0.2)),
        "start": Choice(values=("tiles",)),
    }


def test_a_file_of_one_option_has_that_option_s_axis(file):
    search = from_file(file("queue_size: [4, 8]", name="sizes.yml"))
    assert search.name == "sizes"
    assert search.axis is SEARCHES["queue_size"].axis
    assert options(search) == [{"queue_size": 4}, {"queue_size": 8}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected 'option: \[value, ...\]' lines in .*mine.yaml, found None"),
        ("- 1", "lines in .*, found"),
        ("lambda_reg: 0.5", r"expected a list of values for lambda_reg in .*found 0.5; write"),
        ("lambda_reg: []", r"expected a list of values for lambda_reg in .*found \[\]"),
        ("lambda_reg: [[1]]", r"expected a list of values for lambda_reg in .*found \[\[1\]\]"),
        ("lambda_reg: [x]", "lambda_reg must be a number, got 'x'"),
        ("lamda_reg: [1]", "unknown option 'lamda_reg'; did you mean 'lambda_reg'"),
        ("seed: [1, 2]", "give --seeds"),
        ("a: [", "expected a YAML file of options at "),
        ("\0", "expected a YAML file of options at "),
    ],
)
def test_a_file_that_is_no_grid_is_refused_with_a_remedy(file, text, message):
    with pytest.raises(UserError, match=message):
        from_file(file(text))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="expected a YAML file of options at "):
        from_file(tmp_path / "mine.yaml")
