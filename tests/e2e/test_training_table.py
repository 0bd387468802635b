"""A training table from one request: will the customer buy again? On a public log, under a forward split."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from service.settings import Settings
from tests.e2e.test_several_tables import folder_of
from tests.support import LiveService
from tools.testbed.api_client import Client

pytestmark = pytest.mark.xdist_group("several-tables")

MOMENTS = ("1997-06-01", "1997-09-01", "1997-12-01", "1998-03-01")
"""The last one tests a model that learned from the others."""
DAYS = 90
SENTENCE = (
    "Number of purchases and amount spent in the last 30, 90 and 180 days and in all, days since the last purchase, "
    "average gap between purchases, tenure"
)


@pytest.fixture(scope="module")
def client(make_settings: Callable[..., Settings]) -> Iterator[Client]:
    """A caller of a live service."""
    with LiveService(make_settings()) as service:
        yield service.client


def purchases() -> pd.DataFrame:
    """Return the purchases of every third customer of CDNOW who first bought in early 1997 (Fader and Hardie)."""
    path = folder_of("lifetimes") / "datasets" / "CDNOW_master.txt"
    log = pd.read_csv(path, sep=r"\s+", names=["customer", "day", "cds", "amount"], skiprows=1, dtype={"customer": str})
    return log[log.customer.astype(int) % 3 == 0]


def observations(log: pd.DataFrame) -> pd.DataFrame:
    """Return each customer at each moment by which it had bought, in no order."""
    day = pd.to_datetime(log.day.astype(str))
    known = [pd.DataFrame({"who": log.customer[day < moment].unique(), "moment": moment}) for moment in MOMENTS]
    return pd.concat(known).sample(frac=1, random_state=0).reset_index(drop=True)


def by_hand(log: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Return what a data scientist would compute in pandas: recency, frequency and money, in all and in windows."""
    log = log.assign(at=pd.to_datetime(log.day.astype(str)))
    parts = []
    for moment, rows in asked.groupby("moment"):
        now = pd.Timestamp(str(moment))
        known = log[log["at"] < now].groupby("customer")
        found = pd.DataFrame({"n": known.size(), "amount": known.amount.sum(), "mean": known.amount.mean()})
        found["recency"] = (now - known["at"].max()).dt.days
        found["tenure"] = (now - known["at"].min()).dt.days
        for days in (30, 90, 180):
            recent = log[(log["at"] < now) & (log["at"] >= now - pd.Timedelta(days=days))].groupby("customer")
            found[f"n_{days}"], found[f"amount_{days}"] = recent.size(), recent.amount.sum()
        ahead = log[(log["at"] >= now) & (log["at"] < now + pd.Timedelta(days=DAYS))].groupby("customer")
        found["label"] = (ahead.size() > 0).astype(int)
        parts.append(rows[["who"]].join(found.fillna(0), on="who"))
    return pd.concat(parts).sort_index()


def forward_auc(features: pd.DataFrame, label: pd.Series, moment: pd.Series) -> float:
    """Return how well a model that learned from earlier moments ranks the last one."""
    earlier = (moment < pd.Timestamp(MOMENTS[-1])).to_numpy()
    numbers = features.select_dtypes("number").to_numpy(dtype=float)
    scores = []
    for seed in range(3):
        model = HistGradientBoostingClassifier(max_depth=4, learning_rate=0.05, max_iter=120, random_state=seed)
        model.fit(numbers[earlier], label[earlier])
        scores.append(roc_auc_score(label[~earlier], model.predict_proba(numbers[~earlier])[:, 1]))
    return float(np.mean(scores))


def test_a_training_table_from_one_request(client: Client) -> None:
    """Features from before each moment, the label from the 90 days after; a model on them is as good as by hand."""
    log = purchases()
    asked = observations(log)
    assert client.upload("purchases", log.to_csv(index=False).encode()).status == 201
    assert client.upload("moments", asked.to_csv(index=False).encode()).status == 201
    options = {
        "entity": "customer",
        "time": "day",
        "observations": {"dataset_id": "moments", "entity": "who", "time": "moment"},
        "horizon": {"days": DAYS, "name": "buys_again"},
        "max_features": 30,
    }
    answer = client.extract("purchases", SENTENCE, options=options)
    assert answer.status == 200, answer.body
    found = client.get(f"/api/v1/extraction/{answer.data['extraction_id']}/features?format=parquet")
    table = pd.read_parquet(io.BytesIO(found.body))

    hand = by_hand(log, asked)
    assert answer.data["grain"] == "observation"
    assert [*table.columns][:4] == ["row_id", "who", "moment", "buys_again"]
    assert table.row_id.tolist() == [*range(len(asked))]
    assert table.who.tolist() == asked.who.tolist()
    assert table.buys_again.tolist() == hand.label.tolist()
    features = table.drop(columns=["row_id", "who", "moment", "buys_again"])
    theirs = forward_auc(hand.drop(columns=["who", "label"]), hand.label, table.moment)
    ours = forward_auc(features, hand.label, table.moment)
    assert ours >= theirs - 0.01, (ours, theirs)
