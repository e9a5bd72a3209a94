"""Ready schemas on files with the headers that the public data sets have."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from core.errors import DataContractError
from domains.finance import domain
from domains.finance.batches import Gatherer
from domains.finance.clock import Clock
from domains.finance.schema import load_schema
from domains.finance.source import judge
from pipelines.schema import register_schemas

ROOT = Path(__file__).parents[3]
PERSONS = ("Jennifer", "Banks", "561 Perry Cove", "Psychologist, counselling", "1988-03-09")
CARD = "2703186189652095"

SPARKOV = (
    ",trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,zip,"
    "lat,long,city_pop,job,dob,trans_num,unix_time,merch_lat,merch_long,is_fraud",
    lambda i, day, hours: (
        f'{i},{day:%Y-%m-%d %H:%M:%S},{CARD},"fraud_Rippin, Kub",misc_net,{4 + i}.97,Jennifer,'
        'Banks,F,561 Perry Cove,Moravian Falls,NC,28654,36.0788,-81.1781,3495,"Psychologist, '
        f'counselling",1988-03-09,{i:032x},1325376018,36.011293,-82.048315,{i % 7 == 0:d}'
    ),
)
PAYSIM = (
    "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,"
    "isFraud,isFlaggedFraud",
    lambda i, day, hours: (
        f"{hours},PAYMENT,9839.64,C{1231006815 + i % 5},170136.0,160296.36,M1979787155,0.0,"
        f"0.0,{i % 7 == 0:d},0"
    ),
)
BANKSIM = (
    "step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud",
    lambda i, day, hours: (
        f"{hours // 24},'C109382615{i % 5}','4','M','28007','M348934600','28007',"
        f"'es_transportation',{4 + i}.55,{i % 7 == 0:d}"
    ),
)
TABFORMER = (
    "User,Card,Year,Month,Day,Time,Amount,Use Chip,Merchant Name,Merchant City,Merchant State,Zip,"
    "MCC,Errors?,Is Fraud?",
    lambda i, day, hours: (
        f"0,{i % 3},{day.year},{day.month},{day.day},{day:%H:%M},${'-' * (i % 2)}134.09,"
        "Swipe Transaction,3527213246127876953,La Verne,CA,91750.0,5300,,"
        f"{'Yes' if i % 7 == 0 else 'No'}"
    ),
)
IEEE = (
    "TransactionID,isFraud,TransactionDT,TransactionAmt,ProductCD,"
    + ",".join(f"card{i}" for i in range(1, 7))
    + ",addr1,addr2,dist1,dist2,P_emaildomain,R_emaildomain,"
    + ",".join(f"{k}{i}" for k, n in (("C", 14), ("D", 15), ("M", 9)) for i in range(1, n + 1)),
    lambda i, day, hours: (
        f"{2987000 + i},{i % 7 == 0:d},{3600 * hours},68.5,W,13926,,150.0,discover,142.0,"
        "credit,315.0,87.0,19.0,,gmail.com,," + "1.0," * 14 + "14.0," + "," * 14 + "T,T,T,M2,F,T,,,"
    ),
)
ULB = (
    '"Time",' + ",".join(f'"V{i}"' for i in range(1, 29)) + ',"Amount","Class"',
    lambda i, day, hours: (
        f"{3600 * hours}," + ",".join(f"{0.1 * v}" for v in range(28)) + f',149.62,"{i % 7 == 0:d}"'
    ),
)
FILES = {
    "sparkov_kaggle": (SPARKOV, ["2020-01-05 10:00", "2020-06-10 11:00", "2020-06-25 12:00"]),
    "paysim": (PAYSIM, ["2024-01-02 10:00", "2024-01-16 11:00", "2024-01-25 12:00"]),
    "banksim": (BANKSIM, ["2024-01-05", "2024-04-29", "2024-05-10"]),
    "tabformer": (TABFORMER, ["2018-01-05 10:00", "2018-11-25 06:21", "2019-03-01 12:00"]),
    "ieee_cis": (IEEE, ["2017-12-02 01:00", "2018-03-25 03:00", "2018-05-05 04:00"]),
    "ulb": (ULB, ["2013-09-01 01:00", "2013-09-01 20:00", "2013-09-02 07:00"]),
}
ORIGINS = {"paysim": "2024-01-01", "banksim": "2024-01-01", "ieee_cis": "2017-12-01"}


def write(name: str, path: Path) -> list[datetime]:
    """Three bursts of ten rows: to learn from, to calibrate with, to be judged by."""
    origin = datetime.fromisoformat(ORIGINS.get(name, "2013-09-01"))
    (header, row), days = FILES[name]
    times = [datetime.fromisoformat(days[i // 10]) for i in range(30)]
    hours = [int((time - origin).total_seconds() // 3600) for time in times]
    rows = [row(i, times[i], hours[i]) for i in range(30)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return times


def configured(name: str, path: Path):
    register_schemas()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", ["domain=finance", f"data={name}", f"domain.data.path={path}"])
    return OmegaConf.to_object(config.domain)


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_the_true_header_trains_as_its_configuration_says(name, tmp_path):
    times = write(name, tmp_path / "data.csv")
    config = configured(name, tmp_path / "data.csv")
    source, task = domain.open(config, "train"), domain.task(config)
    assert source.set_aside().collect().is_empty()
    assert source.events["time"].dt.replace_time_zone(None).to_list() == times
    assert source.events["label"].sum() == 5
    fold = task.folds(source)[0]
    validation = 10 if config.split.validation_days else 0
    assert [len(rows) for rows in (fold.train, fold.validation, fold.test)] == [
        20 - validation,
        validation,
        10,
    ]
    tokenizer = task.fit_tokenizer(source, fold.train)
    batch = task.loader(source, tokenizer, fold.train, 0, 1).batch_at(0)
    assert isinstance(batch["gatherer"], Gatherer) and len(batch["targets"]) == config.batch_size
    assert (
        task.predict(_untrained(task, tokenizer), source, tokenizer, fold.test)["raw"].len() == 10
    )


def _untrained(task, tokenizer):
    from core.attention import Window
    from core.model.encoder import EncoderConfig

    return task.module(tokenizer, EncoderConfig(dim=16, layers=1, heads=4, pattern=Window(64)))


def test_personal_data_of_sparkov_enters_no_token(tmp_path):
    write("sparkov_kaggle", tmp_path / "data.csv")
    config = configured("sparkov_kaggle", tmp_path / "data.csv")
    source, task = domain.open(config, "train"), domain.task(config)
    fold = task.folds(source)[0]
    told = json.dumps(task.fit_tokenizer(source, source.events["row"]).to_dict())
    assert "misc_net" in told
    fields = [*PERSONS, CARD, "Rippin", "Moravian Falls", "28654", "36.0788", "81.1781", "3495"]
    assert not [secret for secret in fields if secret in told]
    held = {"row", "time", "label", "number:amt", "number:merch_lat", "number:merch_long"}
    held |= {"entity:customer", "entity:terminal", "category:category"}
    assert set(source.events.columns) == held
    assert len(fold.train)


@pytest.mark.parametrize(
    ("stated", "cells", "expected"),
    [
        ({"column": "a", "unit": "h", "origin": "2024-01-01"}, ["1", "2.5", "x"], [60, 150, None]),
        (
            {"columns": ["b", "c"], "format": "%Y-%m-%d %H:%M"},
            ["00:10", "7:05", "25:00"],
            [10, 425, None],
        ),
        ("d", ["2024-01-01 00:01", "2024-01-01T02:00:00Z", "soon"], [1, 120, None]),
    ],
)
def test_times_are_read_as_the_schema_states_them(stated, cells, expected):
    raw = pl.DataFrame(dict.fromkeys("abcd", cells)).with_columns(b=pl.lit("2024-01-01"))
    clock = Clock.parse("my.yaml", stated)
    assert Clock.parse("my.yaml", clock.stated()) == clock
    found = raw.select(clock.value(raw, "UTC")).to_series()
    minutes = (found.dt.replace_time_zone(None) - datetime(2024, 1, 1)).dt.total_minutes()
    assert minutes.to_list() == expected


def test_a_time_that_cannot_be_read_is_set_aside_with_what_was_expected(tmp_path):
    write("paysim", tmp_path / "data.csv")
    raw = pl.read_csv(tmp_path / "data.csv", infer_schema=False)
    raw = raw.with_columns(step=pl.Series(["noon", *raw["step"][1:]]))
    events, aside = judge(raw, tmp_path / "data.csv", load_schema("paysim"), True)
    assert len(events) == 29
    assert aside.select("row", "column", "expected").row(0) == (
        0,
        "step",
        "a number of h since 2024-01-01",
    )
    assert np.isin(0, events["row"].to_numpy()).item() is False
    with pytest.raises(DataContractError, match="step"):
        judge(raw.drop("step"), tmp_path / "data.csv", load_schema("paysim"), True)
