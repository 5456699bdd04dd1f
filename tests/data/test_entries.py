import numpy as np
import pytest
import scipy.sparse

from phenodl.data.entries import EntriesError, Misplaced, from_list, from_matrix
from phenodl.data.entry_files import read_entries

GAPS = np.array([[1.5, np.nan, 2.0, 4.0], [np.nan, 3.0, np.nan, 1.0], [1.0, 2.0, 3.0, 4.0]])


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        if isinstance(content, dict):
            np.savez(path, **content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)
        return path

    return write


def as_dict(entries):
    """The entries by the names of their rows and columns."""
    rows, columns = entries.row_ids[entries.row], entries.column_ids[entries.column]
    return dict(zip(zip(rows.tolist(), columns.tolist(), strict=True), entries.value, strict=True))


RATINGS = {(196, 242): 3.0, (186, 302): 3.5, (196, 51): 1.0}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("u.data", "196\t242\t3\t881250949\n186\t302\t3.5\t891717742\n196\t51\t1\t88125\n"),
        ("ratings.dat", "196::242::3::881250949\n186::302::3.5::891717742\n196::51::1::88125\n"),
        (
            "ratings.csv",
            "userId,movieId,rating,timestamp\n196,242,3.0,96\n186,302,3.5,97\n196,51,1.0,98\n",
        ),
        ("shuffled.tsv", "rating\tuser_id\titem_id\n3\t196\t242\n3.5\t186\t302\n1\t196\t51\n"),
        ("plain.csv", "196,242,3\n186,302,3.5\n\n196,51,1\n196,51,1\n"),
        ("windows.csv", b"\xef\xbb\xbf196,242,3\r\n186,302,3.5\r\n196,51,1\r\n"),
        ("titled.csv", 'row,title,column,value\n196,"a, b",242,3\n186,c,302,3.5\n196,,51,1\n'),
        ("list.npz", {"row": [196, 186, 196], "column": [242, 302, 51], "value": [3, 3.5, 1]}),
    ],
)
def test_a_list_in_every_layout(write, name, text):
    entries = read_entries(write(name, text))
    assert as_dict(entries) == RATINGS
    assert entries.shape == (2, 3)
    assert (entries.layout, entries.merged) == ("entries", int(name == "plain.csv"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("matrix.csv", "1.5,,2,4\n,3,NaN,1\n1,2,3,4\n"),
        ("matrix.tsv", "1.5\t\t2\t4\nnan\t3\tNA\t1\n1\t2\t3\t4\n"),
        ("named.csv", ",w,x,y,z\na,1.5,,2,4\nb,,3,NaN,1\nc,1,2,3,4\n"),
        ("pandas.csv", ",0,1,2,3\n0,1.5,,2.0,4.0\n1,,3.0,,1.0\n2,1.0,2.0,3.0,4.0\n"),
        ("pivot.csv", "userId,10,20,31,40\n7,1.5,,2,4\n8,,3,,1\n9,1,2,3,4\n"),
        ("films.csv", "userId,Alien,Brazil,Casino,Dune\n7,1.5,,2,4\n8,,3,,1\n9,1,2,3,4\n"),
        ("matrix.npz", {"anything": GAPS}),
    ],
)
def test_a_matrix_with_gaps_in_every_layout(write, name, content):
    entries = read_entries(write(name, content))
    dense = np.full(entries.shape, np.nan)
    dense[entries.row, entries.column] = entries.value
    np.testing.assert_array_equal(dense, GAPS)
    if name == "named.csv":
        assert entries.row_ids.tolist() == ["a", "b", "c"]
        assert entries.column_ids.tolist() == ["w", "x", "y", "z"]
    if name in ("pivot.csv", "films.csv"):
        assert entries.row_ids.tolist() == [7, 8, 9]


def test_a_first_row_that_begins_with_a_gap_is_no_header(write):
    for text in (",1,1\n2,3,1\n", ",1.5,2\n2,3,1\n", ",1,2\n2,3,1\n2,1,1\n"):
        entries = read_entries(write("matrix.csv", text))
        assert entries.shape == (text.count("\n"), 3)
        assert len(entries.value) == 3 * text.count("\n") - 1


def test_the_layout_can_be_told(write):
    ambiguous = write("small.csv", "1,2,,4\n2,3,7,4\n")
    with pytest.raises(EntriesError, match="line 1, column 3: an empty cell; pass --layout matrix"):
        read_entries(ambiguous)
    assert len(read_entries(ambiguous, "matrix").value) == 7
    numbers = write("numbers.csv", "1,2,3\n4,5,6\n")
    assert read_entries(numbers).shape == (2, 2)
    assert read_entries(numbers, "matrix").shape == (2, 3)
    named = write("scores.csv", "who,what,score\n1,2,3\n")
    assert as_dict(read_entries(named, "entries")) == {(1, 2): 3}


def test_names_are_text_or_whole_numbers(write):
    entries = read_entries(write("words.csv", "bob,Film 2,4\nalice,Film 10,3\nbob,Film 10,1\n"))
    assert entries.row_ids.tolist() == ["alice", "bob"]
    assert entries.row.tolist() == [1, 0, 1]
    # Consecutive numbers that are one and the same in double precision.
    entries = read_entries(write("long.csv", "9007199254740992,1,2\n9007199254740993,1,3\n"))
    assert entries.row_ids.tolist() == [9007199254740992, 9007199254740993]
    entries = read_entries(write("inf.csv", "row,column,value\ninf,1,1\n2,2,2\n"))
    assert entries.row_ids.tolist() == ["2", "inf"]


def test_an_archive_of_scipy(write, tmp_path):
    matrix = scipy.sparse.coo_array(([1.0, 2.0], ([0, 3], [4, 1])), shape=(5, 6))
    scipy.sparse.save_npz(tmp_path / "sparse.npz", matrix)
    entries = read_entries(tmp_path / "sparse.npz")
    assert entries.shape == (5, 6)
    assert as_dict(entries) == {(0, 4): 1.0, (3, 1): 2.0}


def test_a_long_list_against_a_dictionary(write):
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 10**9, 20_000), rng.integers(0, 50, 20_000)
    values = (rows + columns) % 7
    text = "\n".join(f"{r},{c},{v}" for r, c, v in zip(rows, columns, values, strict=True))
    entries = read_entries(write("long.csv", text))
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    assert as_dict(entries) == dict(zip(pairs, values, strict=True))
    assert np.unique(entries.row).tolist() == list(range(entries.shape[0]))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", " \n\n", "is empty"),
        ("a.csv", "row,column,value\n", "no entry is observed"),
        ("a.csv", ",,,,,\n,,,,,\n", "no entry is observed"),
        ("a.csv", "1,2,3\n1,3,x\n", "line 2, column 3: a value must be a number, got 'x'"),
        ("a.csv", "1,2,3\n\n1,3\n", "line 3, column 3: 2 columns, but 3 in the first line"),
        ("a.csv", "1,2,3\n1,3,4,5\n", "line 2, column 4: 4 columns, but 3 in the first line"),
        ("a.csv", "x,row,column,value\n1,2,3\n", "line 2, column 4: 3 columns, but 4 in the first"),
        ("a.csv", "row,column,value\n1,2,3,4\n", "line 2, column 4: 4 columns, but 3 in the first"),
        ("a.csv", "a,b,c,d,e,f\n1,2,3,4,5\n", "line 2, column 6: 5 columns, but 6 in the first"),
        ("a.csv", ",a,b\nx,1,2,3\ny,3,4,5\n", "line 2, column 4: 4 columns, but 3 in the first"),
        (
            "a.csv",
            'row,column,value\n"a",x,1\n\n"b,y,2\n"c",x,3\n',
            "line 4: a quote is not closed",
        ),
        ("a.csv", 'row,column,value\na"b,"c,2\n', "line 2: a quote is not closed"),
        ("a.csv", 'row,column,value\n"a\nb",x,1\n', "line 2: a quote is not closed"),
        ("a.csv", "1;2;3\n2;3;4\n", "line 1, column 1: one column; separated by ';', not ','?"),
        ("a.csv", "1,2,-1e300\n", "line 1, column 3: a value must be below 1e+150 in size"),
        ("u.data", "1\t2\n", "line 1, column 3: a list needs row, column and value"),
        ("u.data", "1\t2\t3\n1\t\t4\n", "line 2, column 2: a column must be named, got ''"),
        ("u.data", "1\t2\tnan\n", "line 1, column 3: a value is missing or NaN"),
        ("a.csv", "value,row,column\ninf,1,2\n", "line 2, column 1: a value must be finite"),
        ("a.csv", "1,2,3\n-1,2,3\n", "line 2, column 1: a row must be at least 0, got -1"),
        (
            "a.csv",
            "movieId,userId,rating\n1,2,3\n1,2,4\n",
            "line 3, column 3: row 2, column 1 is given twice, with the values 3 and 4",
        ),
        ("a.csv", "userId,movieId,tag,at\n1,2,x,4\n", "line 1, column 4: no column is named value"),
        ("a.csv", "who,what,score\n1,2,3\n", "line 1, column 1: unknown names of columns"),
        ("a.csv", ",x,y\na,1,2\nb,,inf\n", "line 3, column 3: a value must be finite"),
        ("a.csv", "p,q\n1,2\n3,?\n", "line 3, column 2: a value must be a number, got '?'"),
        ("a.csv", b"1,2,\xff\n", "is not text in UTF-8 (byte 5)"),
        ("a.xlsx", "1,2,3\n", "the name must end in one of .csv, .tsv, .data, .dat, .npz"),
        ("a.npz", b"no archive", "is no NPZ archive of plain arrays"),
        ("a.npz", b"PK\x03\x04 cut off", "is no NPZ archive of plain arrays"),
        ("a.npz", {"m": np.array([object()])}, "is no NPZ archive of plain arrays"),
        ("a.npz", {"m": np.ones(3)}, "needs the arrays row, column and value, or one matrix"),
        ("a.npz", {"row": [1], "column": [1, 2], "value": [1.0]}, "must be lists of one length"),
        ("a.npz", {"row": [0.5], "column": [1], "value": [1.0]}, "must hold whole numbers"),
        (
            "a.npz",
            {"row": [0, 1], "column": [0, 5], "value": [1.0, 2.0], "shape": [2, 5]},
            "column[1]: a column must be in [0, 5), got 5",
        ),
        ("a.npz", {"row": [0], "column": [0], "value": [1.0], "shape": [2]}, "shape must be two"),
        (
            "a.npz",
            {"row": [0], "column": [0], "value": [1.0], "shape": [-1, 2]},
            "shape must be two",
        ),
        (
            "a.npz",
            {"row": [0], "column": [0], "value": [1.0], "shape": [10**12, 10**12]},
            "shape must be two numbers in [1, 67108864], got (1000000000000, 1000000000000)",
        ),
        ("a.npz", {"m": np.array([[1.0, np.inf]])}, "row 1, column 2: a value must be finite"),
        ("a.npz", {"m": np.full((2, 2), np.nan)}, "no entry is observed"),
    ],
)
def test_a_bad_file_gets_one_line(write, name, content, said):
    path = write(name, content)
    with pytest.raises(EntriesError) as caught:
        read_entries(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(EntriesError, match=r"ratings.csv: cannot be read \(No such file"):
        read_entries(tmp_path / "ratings.csv")


def test_bad_entries_are_placed():
    with pytest.raises(Misplaced, match="row 2, column 3: a value is missing") as caught:
        from_list([1, 2], [1, 2], [1.0, np.nan])
    assert (caught.value.row, caught.value.column) == (1, 2)
    with pytest.raises(EntriesError, match="no entry"):
        from_list([], [], [])
    with pytest.raises(Misplaced, match="row 1, column 2: a value must be finite"):
        from_matrix([[0.0, -np.inf]])
