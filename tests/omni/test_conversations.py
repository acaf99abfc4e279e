"""Conversations from JSON lines: every accepted form, and every refusal with file and line."""

import base64
import json

import pytest

from pytest_q3omni.errors import InvalidRequest, NotChatML, Q3OmniError, Unreadable
from pytest_q3omni.omni import conversations as module
from pytest_q3omni.omni.conversations import digest, load_conversations, parse_conversation

pytestmark = pytest.mark.tiny

PICTURE, SOUND = b"\x89PNG not decoded here", b"RIFF not decoded here"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "cat.png").write_bytes(PICTURE)
    (tmp_path / "media" / "meow.wav").write_bytes(SOUND)
    return tmp_path


def write(folder, *lines):
    file = folder / "talk.jsonl"
    file.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return file


def user(content):
    return {"messages": [{"role": "user", "content": content}]}


def uri(data, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def parts(folder, content):
    return load_conversations(write(folder, user(content)))[0].parts


def test_all_forms_become_three(folder):
    encoded = base64.b64encode(SOUND).decode()
    found = parts(folder, [
        {"type": "text", "text": "What?"},
        {"type": "image", "image": "media/cat.png"},
        {"type": "image", "image": uri(PICTURE)},
        {"type": "image_url", "image_url": {"url": uri(PICTURE, "image/jpeg"), "detail": "low"}},
        {"type": "image_url", "image_url": "media/cat.png"},
        {"type": "audio", "audio": "media/meow.wav"},
        {"type": "audio", "audio": uri(SOUND, "audio/wav")},
        {"type": "input_audio", "input_audio": {"data": encoded, "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": uri(SOUND, "audio/flac"), "format": "flac"}},
    ])  # fmt: skip
    picture, sound = str(folder / "media" / "cat.png"), str(folder / "media" / "meow.wav")
    assert found == [
        {"type": "text", "text": "What?"},
        *({"type": "image", "image": source} for source in (picture, PICTURE, PICTURE, picture)),
        *({"type": "audio", "audio": source} for source in (sound, SOUND, SOUND, SOUND)),
    ]


def test_ids_modalities_and_sources(folder):
    text = user("Hello")
    mixed = user([{"type": "image", "image": uri(b"1")}, {"type": "audio", "audio": uri(b"2", "audio/wav")}])
    mixed["messages"] += [{"role": "assistant", "content": "Hi"}]
    first, second = load_conversations(write(folder, text, b"", b"  ", mixed))
    assert (first.id, second.id) == ("talk.jsonl:1", "talk.jsonl:4")
    assert first.messages == ({"role": "user", "content": [{"type": "text", "text": "Hello"}]},)
    assert first.modalities == {"text"}
    assert second.modalities == {"text", "image", "audio"}
    assert second.sources("image") == [b"1"]
    assert second.sources("audio") == [b"2"]
    assert (first.answered, second.answered) == (False, True)


def test_a_byte_order_mark_is_skipped(folder):
    file = write(folder, b"\xef\xbb\xbf" + json.dumps(user("Hello")).encode())
    assert len(load_conversations(file)) == 1


def test_absolute_paths_stay(folder):
    path = folder / "media" / "cat.png"
    assert parts(folder, [{"type": "image", "image": str(path)}]) == [{"type": "image", "image": str(path)}]


MIXED = [
    {"type": "image", "image": "media/cat.png"},
    {"type": "audio", "audio": "media/meow.wav"},
    {"type": "text", "text": "What?"},
]


def test_the_digest_follows_media_bytes_not_names(folder):
    found = load_conversations(write(folder, user(MIXED)))
    before = digest(found)
    assert before == digest(found)
    assert len(before) == 64
    (folder / "media" / "cat.png").rename(folder / "media" / "dog.png")
    moved = load_conversations(write(folder, user([{"type": "image", "image": "media/dog.png"}, *MIXED[1:]])))
    assert digest(moved) == before
    inline = [{"type": "image", "image": uri(PICTURE)}, *MIXED[1:]]
    assert digest(load_conversations(write(folder, user(inline)))) == before


@pytest.mark.parametrize("name", ["cat.png", "meow.wav"])
def test_a_replaced_or_missing_media_file_changes_the_digest(folder, name):
    found = load_conversations(write(folder, user(MIXED)))
    digests = [digest(found)]
    (folder / "media" / name).write_bytes(b"another")
    digests.append(digest(found))
    (folder / "media" / name).write_bytes(b"")
    digests.append(digest(found))
    (folder / "media" / name).unlink()
    digests.append(digest(found))
    assert len(set(digests)) == 4


def test_texts_roles_order_and_borders_change_the_digest(folder):
    one, two = user("Hello"), user("Hello!")
    split = user([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}])
    system = {"messages": [{"role": "system", "content": "Hello"}, *one["messages"]]}
    longer = {"messages": [*one["messages"], *two["messages"]]}
    files = [(one,), (two,), (split,), (system,), (one, two), (two, one), (longer,), (one, one)]
    found = [digest(load_conversations(write(folder, *lines))) for lines in files]
    assert len({*found, digest([])}) == len(files) + 1


def image(source):
    return user([{"type": "image", "image": source}])


RENDERED = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"

BAD_LINES = {
    "not JSON": (b'{"messages": [', Unreadable, "not valid JSON"),
    "latin-1": ('{"messages": "é"}'.encode("latin-1"), Unreadable, "not UTF-8 text"),
    "UTF-16": ('{"messages": []}'.encode("utf-16"), Unreadable, "not UTF-8 text"),
    "UTF-16 without a mark": ('{"messages": []}'.encode("utf-16-le"), Unreadable, "not UTF-8 text"),
    "nested without end": (b"[" * 100_000, Unreadable, "not valid JSON"),
    "a list": ([1], InvalidRequest, "no list of messages"),
    "no messages": ({"question": "x"}, InvalidRequest, "no list of messages"),
    "a prompt": ({"prompt": "Tell me."}, NotChatML, "no `<|im_start|>user` and no `<|im_start|>assistant` in the"),
    "a text": ({"text": "Tell me."}, NotChatML, "in the prompt 'Tell me.'"),
    "a text beside a prompt": ({"prompt": 1, "text": "Tell me."}, NotChatML, "in the prompt 'Tell me.'"),
    "a string": ("x" * 70, NotChatML, "in the prompt '" + "x" * 60 + "'..."),
    "a prompt with roles": ({"prompt": RENDERED}, InvalidRequest, "a rendered prompt '<|im_start|>user"),
    "a string with roles": (RENDERED, InvalidRequest, "a rendered prompt '<|im_start|>user"),
    "a prompt of numbers": ({"prompt": 1}, InvalidRequest, "no list of messages"),
    "a prompt beside messages": ({"messages": [], "prompt": "x"}, InvalidRequest, "no list of messages"),
    "messages empty": ({"messages": []}, InvalidRequest, "no list of messages"),
    "message a string": ({"messages": ["x"]}, InvalidRequest, "no list of messages"),
    "no user": ({"messages": [{"role": "system", "content": "x"}]}, NotChatML, "role 'user'"),
    "role unknown": ({"messages": [{"role": "human", "content": "x"}]}, NotChatML, "the role 'human'"),
    "role a list": ({"messages": [{"role": [], "content": "x"}]}, NotChatML, "the role []"),
    "no content": ({"messages": [{"role": "user"}]}, InvalidRequest, "content is None"),
    "content empty": (user([]), InvalidRequest, "content is []"),
    "content of numbers": (user([1]), InvalidRequest, "content is [1]"),
    "part without type": (user([{"text": "x"}]), InvalidRequest, "a part of type None"),
    "part of odd type": (user([{"type": ["text"]}]), InvalidRequest, "a part of type ['text']"),
    "video": (user([{"type": "video", "video": "x.mp4"}]), InvalidRequest, "a part of type 'video'"),
    "text missing": (user([{"type": "text"}]), InvalidRequest, 'no "text"'),
    "text empty": (user([{"type": "text", "text": ""}]), InvalidRequest, '"text" is empty'),
    "text a number": (user([{"type": "text", "text": 5}]), InvalidRequest, '"text" is 5, which is not a string'),
    "image a number": (image(7), InvalidRequest, '"image" is 7, which is not a string'),
    "image missing": (image("media/dog.png"), Unreadable, "no such file"),
    "image a folder": (image("media"), Unreadable, "no such file"),
    "image with a null": (image("media/\0.png"), Unreadable, "no such file"),
    "image a long name": (image("x" * 9000), Unreadable, "xxx...") ,
    "image as base64": (image("iVBORw0KGgo" * 900), Unreadable, "'iVBORw0KGgo"),
    "http": (image("http://example.org/cat.png"), InvalidRequest, "the address 'http://example.org/cat.png'"),
    "https": (user([{"type": "image_url", "image_url": {"url": "https://e.org/c.png"}}]), InvalidRequest, "address"),
    "file scheme": (image("file:///etc/passwd"), InvalidRequest, "the address 'file:///etc/passwd'"),
    "data without base64": (image("data:image/png,abc"), InvalidRequest, "without ;base64"),
    "data of another type": (image(uri(b"x", "audio/wav")), InvalidRequest, "a data URI of type audio/wav"),
    "data without type": (image("data:;base64,YQ=="), InvalidRequest, "a data URI of type None"),
    "data malformed": (image("data:image/png"), InvalidRequest, "the address"),
    "data no base64": (image("data:image/png;base64,@@@"), InvalidRequest, "not base64"),
    "data empty": (image("data:image/png;base64,"), InvalidRequest, "no data"),
    "image_url empty": (user([{"type": "image_url"}]), InvalidRequest, 'no "url"'),
    "input_audio empty": (user([{"type": "input_audio"}]), InvalidRequest, 'no "data"'),
    "input_audio a string": (user([{"type": "input_audio", "input_audio": "YQ=="}]), InvalidRequest, 'no "data"'),
    "mp3": (user([{"type": "input_audio", "input_audio": {"data": "YQ==", "format": "mp3"}}]), InvalidRequest, "'mp3'"),
    "input_audio no base64": (
        user([{"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}]), InvalidRequest, "not base64",
    ),
    "input_audio of pictures": (
        user([{"type": "input_audio", "input_audio": {"data": uri(b"x")}}]), InvalidRequest, "of type image/png",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named(folder, name):
    line, kind, found = BAD_LINES[name]
    file = write(folder, user("fine"), line)
    with pytest.raises(Q3OmniError) as caught:
        load_conversations(file)
    assert type(caught.value) is kind
    assert caught.value.where == f"{file}:2"
    assert found in caught.value.found
    assert caught.value.expected


@pytest.mark.parametrize("text", ["x" * 9000, "iVBORw0KGgoAAAANSUhEUg" * 400, "iVBORw0KGgoAAAANSUhEUg" * 4 + "=="])
@pytest.mark.parametrize(
    ("kind", "example"), [("image", "data:image/png;base64,"), ("audio", "data:audio/wav;base64,")]
)
def test_bytes_in_place_of_a_path_are_cut_and_explained(folder, kind, example, text):
    with pytest.raises(Unreadable) as caught:
        parts(folder, [{"type": kind, kind: text}])
    assert example in caught.value.fix
    assert len(str(caught.value)) < 400
    assert text not in str(caught.value)


def test_a_path_that_is_missing_is_shown_whole(folder):
    name = "a folder/" * 12 + "dog.png"
    with pytest.raises(Unreadable, match=r"dog\.png") as caught:
        parts(folder, [{"type": "image", "image": name}])
    assert caught.value.fix == "check the path"


@pytest.mark.parametrize(("address", "fix"), [
    ("file:///a/cat.png", "write the path itself"), ("file:/a/cat.png", "write the path itself"),
    ("FILE:///a/cat.png", "write the path itself"), ("data:image/png", "write data:image/...;base64,..."),
    ("https://example.org/cat.png", "download it"), ("s3://bucket/cat.png", "download it"),
])  # fmt: skip
def test_what_to_write_in_place_of_an_address(folder, address, fix):
    with pytest.raises(InvalidRequest, match="the address") as caught:
        parts(folder, [{"type": "image", "image": address}])
    assert fix in caught.value.fix


@pytest.mark.parametrize("name", ["take:1.png", "data.png", "ab:c"])
def test_a_colon_makes_no_address(folder, name):
    (folder / name).write_bytes(PICTURE)
    assert parts(folder, [{"type": "image", "image": name}]) == [{"type": "image", "image": str(folder / name)}]


def test_the_home_directory_is_expanded(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(folder / "media"))
    monkeypatch.setenv("USERPROFILE", str(folder / "media"))
    wanted = [{"type": "image", "image": str(folder / "media" / "cat.png")}]
    assert parts(folder, [{"type": "image", "image": "~/cat.png"}]) == wanted


@pytest.mark.parametrize(("encoding", "name"), [("utf-16", "UTF-16"), ("utf-16-be", "UTF-16"), ("latin-1", "LATIN1")])
def test_another_encoding_is_named_with_the_command(tmp_path, encoding, name):
    file = tmp_path / "talk.jsonl"
    file.write_bytes(json.dumps(user("Was für ein Bär?"), ensure_ascii=False).encode(encoding))
    with pytest.raises(Unreadable, match="not UTF-8 text") as caught:
        load_conversations(file)
    assert f"iconv -f {name} -t UTF-8 talk.jsonl" in caught.value.fix


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Unreadable, match=r"none\.jsonl: No such file"):
        load_conversations(tmp_path / "none.jsonl")


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_a_file_without_conversations_is_refused(tmp_path, content):
    (tmp_path / "empty.jsonl").write_bytes(content)
    with pytest.raises(InvalidRequest, match="no conversation"):
        load_conversations(tmp_path / "empty.jsonl")


def test_long_lines_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 100)
    with pytest.raises(InvalidRequest, match="too long a line") as caught:
        load_conversations(write(folder, user("short"), user("x" * 100)))
    assert caught.value.where.endswith(":2")


def test_long_values_are_cut_in_messages(folder):
    with pytest.raises(InvalidRequest) as caught:
        parse_conversation(image("http://" + "x" * 1000), "a:1", folder)
    assert len(caught.value.found) < 100


def test_reading_loads_nothing_heavy(folder):
    import subprocess
    import sys

    write(folder, image("media/cat.png"))
    code = (
        "import sys; from pathlib import Path; from pytest_q3omni.omni.conversations import load_conversations; "
        f"load_conversations(Path({str(folder / 'talk.jsonl')!r})); "
        "print(sorted({'torch', 'transformers', 'PIL', 'soundfile', 'numpy'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
