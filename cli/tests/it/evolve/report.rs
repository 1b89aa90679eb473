//! `evolve report`: how a job went, as a page that stands alone.

use super::scene::{ADD_ONE, CLASS, Scene};

/// A job that is held down to take some seconds has a course of its objects; so has its undo.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_tells_how_a_job_went_and_was_taken_back() {
    let scene = Scene::with(120).await;
    let script = scene.script("add_one.sh", ADD_ONE).display().to_string();
    let slowly = ["--set", "rate_max=60", "--set", "chunk_objects_max=20"];
    scene.evolve(&[&["plan", "a<b>", "--class", CLASS, "--below", "2"][..], &slowly].concat());
    let early = scene.evolve(&["report", "a<b>"]);
    assert_eq!((early["work"].as_array().map(Vec::len), early["undo"].as_array().map(Vec::len)), (Some(0), Some(0)));
    scene.evolve(&["run", "a<b>", "--exec", "sh", &script]);

    let course = scene.evolve(&["report", "a<b>"]);
    let done: Vec<u64> = course["work"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|point| point["counts"]["done"].as_u64().expect("a number"))
        .collect();
    assert!(!done.is_empty() && done.is_sorted() && done.iter().all(|done| (1..=120).contains(done)), "{course}");

    scene.evolve(&["undo", "a<b>"]);
    let course = scene.evolve(&["report", "a<b>"]);
    assert!(!course["undo"].as_array().expect("a list").is_empty(), "{course}");

    let file = scene.script("report.html", "mine").display().to_string();
    assert!(scene.said(5, &["report", "a<b>", "--to", &file]).contains("was not made by this command"));
    assert_eq!(std::fs::read_to_string(&file).expect("reads"), "mine", "nothing that it has not made is written over");
    std::fs::remove_file(&file).expect("removes");
    for _ in 0..2 {
        assert!(scene.said(0, &["report", "a<b>", "--to", &file]).contains(&file));
    }
    let page = std::fs::read_to_string(&file).expect("reads");
    assert!(page.contains("evolve a&lt;b&gt;") && !page.contains("a<b>"), "{page}");
    assert_eq!(page.matches("<svg").count(), 6, "three charts of the job, three of its undo");
    let elsewhere = ["src=", "href=", "<script", "@import", "url("];
    assert!(elsewhere.iter().all(|word| !page.contains(word)), "it stands alone: {page}");
    scene.refused(4, &["report", "nobody"]);
}
