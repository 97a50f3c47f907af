"""A real editor asks the server at its cursor, shows the answer as ghost text, and puts it into the file by a key."""

import os
import subprocess
from pathlib import Path

from httpx import Client

from tests.support.programs import need

CLIENT = Path(__file__).with_name("infill.lua")
LINES = ["LAMPS = [", "    lantern, lantern, lantern,", "    lan", "]"]
# The typed keys are read before the script that feeds them goes on.
SESSION = """
local infill = dofile(vim.env.CLIENT)
local function type_keys(keys) vim.api.nvim_feedkeys(vim.api.nvim_replace_termcodes(keys, true, false, true), "tx", false) end
vim.api.nvim_win_set_cursor(0, { 3, 6 })
vim.cmd("startinsert!")
type_keys("A<Cmd>lua infill.ask()<CR><Cmd>lua shown = infill.shown()<CR><Tab><Esc>")
vim.fn.writefile({ shown }, vim.env.SHOWN)
vim.cmd("wq")
"""


def test_ghost_text_is_shown_and_taken_by_a_key(client: Client, tmp_path: Path) -> None:
    need("nvim", "neovim")
    need("curl", "curl")
    file, session, shown = tmp_path / "lamps.py", tmp_path / "session.lua", tmp_path / "shown"
    file.write_text("".join(f"{line}\n" for line in LINES))
    session.write_text(SESSION.replace("local infill", "infill"))
    environment = os.environ | {"CLIENT": str(CLIENT), "SERVER": str(client.base_url).rstrip("/"), "SHOWN": str(shown)}
    command = ["nvim", "--headless", "--clean", "-n", str(file), "-c", f"luafile {session}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    ghost = shown.read_text().removesuffix("\n")
    assert ghost.startswith("tern"), "the word that was begun goes on"
    assert file.read_text().splitlines() == [*LINES[:2], LINES[2] + ghost, LINES[3]]
