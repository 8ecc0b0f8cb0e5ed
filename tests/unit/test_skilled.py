"""What a server does with its settings for skills before it starts."""

from __future__ import annotations

import pytest

from holdfast.settings import InvalidSetting, Settings
from holdfast.skilled import http_allowed


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "http://x", "host:99999"])
def test_what_is_no_host_and_no_network_is_refused_by_its_setting(entry: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        http_allowed(Settings(skills_http_allow=("localhost:9000", entry)))

    assert caught.value.setting == "skills_http_allow"
