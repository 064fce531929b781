"""What a browser would send of an editor's form."""

import re
from html import unescape


def fields_of(page: str) -> dict[str, str]:
    """The fields of the form ``editor`` of a page, without a button."""
    form = page.partition('<form id="editor"')[2].partition("</form>")[0]
    fields = {}
    for tag in re.findall(r"<input[^>]*>", form):
        name = re.search(r'\sname="([^"]*)"', tag)
        if name:
            fields[name[1]] = unescape(re.search(r'\svalue="([^"]*)"', tag)[1])
    for name, options in re.findall(r'<select[^>]*\sname="([^"]*)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'<option(?: value="([^"]*)")? selected>([^<]*)', options)
        chosen = chosen or re.search(r'<option(?: value="([^"]*)")?>([^<]*)', options)
        fields[name] = unescape(chosen[1] if chosen[1] is not None else chosen[2])
    for name, text in re.findall(r'<textarea[^>]*\sname="([^"]*)"[^>]*>\n(.*?)</textarea>', form, re.DOTALL):
        # Browsers send line ends like this.
        fields[name] = unescape(text).replace("\n", "\r\n")
    fields.pop("form_token")
    return fields


def words_of(page: str) -> str:
    """What people read on a page, on one line."""
    content = page.partition('<main id="content"')[2]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", content)).split())
